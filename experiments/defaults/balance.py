"""Classes of unlike sizes, with and without weights in the loss: what `balance="auto"` was chosen on.

    python experiments/defaults/balance.py DATA TASK SEEDS >> experiments/defaults/balance.jsonl

DATA is that of `tasks.py`. TASK is `sst2-rare` or `rotten-tomatoes-rare` (one example in 20 is negative), `genre` (as
it comes) or `titles47-tail` (107 examples of the first article, 6 of the last). Rows of validation count by how often
their class is in train.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, recall_score
from tasks import splits as splits_of

import bitfit

MOST, SLOPE = 107, 0.35  # of the long tail
EPOCHS = {"sst2-rare": 3, "rotten-tomatoes-rare": 8, "genre": 5, "titles47-tail": 12}


def _drawn(data: Path, task: str, seed: int) -> dict[str, pd.DataFrame]:
    source = {"sst2-rare": "sst2-8000", "rotten-tomatoes-rare": "rotten-tomatoes-texts", "titles47-tail": "titles47"}
    splits = splits_of(data, source.get(task, task))
    train = splits["train"]
    if task == "genre":
        return {**splits, "train": train.sample(1500, random_state=seed)}
    if task == "titles47-tail":
        order = np.random.default_rng(seed).permutation(sorted(train.label.unique()))
        sizes = {label: int(MOST / (1 + SLOPE * rank)) for rank, label in enumerate(order)}
    else:
        size = 4000 if task == "sst2-rare" else 1000
        sizes = {"0": size // 20, "1": size - size // 20}
    parts = [group.sample(min(len(group), sizes[label]), random_state=seed) for label, group in train.groupby("label")]
    return {"train": pd.concat(parts), "validation": splits["validation"]}


def main(data: str, task: str, seeds: str) -> None:
    """A line of JSON for each seed and setting."""
    backbone = bitfit.load("minilm")
    for seed in map(int, seeds.split(",")):
        splits = _drawn(Path(data), task, seed)
        validation = splits["validation"]
        shares = [splits[name].label.value_counts(normalize=True) for name in ("train", "validation")]
        weights = validation.label.map(shares[0] / shares[1])
        for how in ("none", "weights"):
            # Train alone is handed over, so that nothing is chosen on validation: some of train is held out.
            run = bitfit.train(
                backbone,
                splits["train"],
                config=bitfit.TrainConfig(seed=seed, epochs=EPOCHS[task], learning_rate=4e-3, balance=how),  # type: ignore[arg-type]
                options={"text": "text", "label": "label", "name": task},
                baselines=False,
            )
            answers = [answer.value for answer in run.delta.predict(backbone, validation.text.tolist())]
            found = {
                "accuracy": accuracy_score(validation.label, answers, sample_weight=weights),
                "macro_f1": f1_score(validation.label, answers, average="macro", sample_weight=weights),
                "mean_recall": recall_score(validation.label, answers, average="macro"),
            }
            line = {"task": task, "seed": seed, "balance": how, **{k: round(v, 4) for k, v in found.items()}}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
