"""Few examples of each class, drawn again and again: two stages beside one, and beside a probe on the frozen features.

    python experiments/defaults/few.py DATA TASK EXAMPLES DRAWS on[,off] >> experiments/defaults/few.jsonl

DATA and TASK are those of `tasks.py`, EXAMPLES how many of each class there are, DRAWS how many times they are drawn
from train. Scores are on 600 rows of validation, the same ones for all draws.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from tasks import splits as splits_of

import bitfit

VALIDATION = 600


def main(data: str, task: str, examples: str, draws: str, modes: str) -> None:
    """A line of JSON for each draw."""
    splits = splits_of(Path(data), task)
    validation = splits["validation"]
    validation = validation.sample(min(VALIDATION, len(validation)), random_state=0)
    backbone = bitfit.load("minilm")
    for draw in range(int(draws)):
        train = splits["train"].groupby("label").sample(int(examples), random_state=draw)
        line: dict[str, object] = {"task": task, "examples": int(examples), "draw": draw}
        for mode in modes.split(","):
            run = _run(backbone, {"train": train, "validation": validation}, mode, draw)
            line[mode] = [round(epoch["validation"]["accuracy"], 4) for epoch in run.history if epoch["validation"]]
            line |= {name: round(score, 4) for name, score in run.baselines.items()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _run(backbone: bitfit.Backbone, splits: dict[str, pd.DataFrame], mode: str, seed: int) -> bitfit.Run:
    config = bitfit.TrainConfig(seed=seed, few_shot="on" if mode == "on" else "off")
    return bitfit.train(backbone, splits, config=config, options={"text": "text", "label": "label", "name": "few"})


if __name__ == "__main__":
    main(*sys.argv[1:])
