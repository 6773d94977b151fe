"""From which share on labels are answered: one threshold for all of them, one for each, or 0.5.

    python experiments/defaults/thresholds.py DATA ARTICLES >> experiments/defaults/thresholds.jsonl

DATA holds SQuAD in the hub's layout. A question's labels are its article, if it is one of the most frequent, and
whether a number or a long text answers it. Thresholds are chosen on draws of validation and scored on other rows.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import bitfit
from bitfit import DataOptions, Predictor, Task
from bitfit.inference.metrics import score
from bitfit.inference.task_data import task_data
from bitfit.inference.thresholds import beyond, fitted_threshold

ROWS = {6: 3000, 25: 6000}
DRAWS, SIZES = 20, (100, 200, 400)
FEWEST = 10  # rows of a label that gets a threshold of its own


def questions(data: Path, articles: int) -> list[dict[str, Any]]:
    """Questions with their labels, of which some have none, shuffled."""
    path = min((data / "squad").rglob("*train*.parquet"))
    table = pq.read_table(path, columns=["title", "question", "answers"]).to_pylist()
    titles = [title for title, _ in Counter(row["title"] for row in table).most_common(2 * articles)]
    rows = [row for row in table if row["title"] in titles]
    chosen = [{"text": row["question"], "labels": _labels(row, titles[:articles])} for row in rows]
    chosen = chosen[:: len(rows) // ROWS[articles]]
    np.random.default_rng(0).shuffle(chosen)  # type: ignore[arg-type]
    return chosen


def _labels(row: Mapping[str, Any], titles: list[str]) -> list[str]:
    answer = row["answers"]["text"][0]
    found = [row["title"]] if row["title"] in titles else []
    found += ["number"] if any(letter.isdigit() for letter in answer) else []
    return found + (["long"] if len(answer.split()) > 4 else [])


def thresholds(there: Any, logits: Any) -> dict[str, list[float]]:
    """Those of each way on the same rows."""
    many, shared = there.shape[1], fitted_threshold(there, logits)
    own = [
        fitted_threshold(there[:, [at]], logits[:, [at]]) if there[:, at].sum() >= FEWEST else shared
        for at in range(many)
    ]
    return {"half": [0.5] * many, "one for all": [shared] * many, "each its own": own}


def main(data: str, articles: str) -> None:
    """A line of JSON for each size of validation and each way: mean scores on the other rows."""
    rows, backbone = questions(Path(data), int(articles)), bitfit.load("minilm")
    quarter = len(rows) // 4
    splits = {"train": rows[:quarter], "validation": rows[quarter : 2 * quarter], "test": rows[2 * quarter :]}
    read = task_data(backbone, splits, DataOptions())
    delta = bitfit.train(backbone, read, "frozen", epochs=8, baselines=False).delta
    predictor = Predictor(backbone, delta)
    logits = {name: predictor.outputs(read.splits[name]) for name in ("validation", "test")}
    task: Task = delta.task
    there = read.splits["validation"].labels
    for size in (*SIZES, len(there)):
        found: dict[str, list[dict[str, float]]] = {}
        for seed in range(DRAWS if size < len(there) else 1):
            drawn = np.random.default_rng(seed).permutation(len(there))[:size]
            for way, least in thresholds(there[drawn], logits["validation"][drawn]).items():
                found.setdefault(way, []).append(score(task, read.splits["test"], beyond(logits["test"], least)))
        for way, scores in found.items():
            means = {name: round(100 * float(np.mean([one[name] for one in scores])), 1) for name in task.metrics[:2]}
            print(json.dumps({"labels": len(task.labels), "validation": size, "thresholds": way, **means}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
