"""Validation after each epoch for some learning rates in one pass: what the defaults of training were chosen on.

    python experiments/defaults/curves.py DATA TASK SIZE EPOCHS RATE[,RATE...] >> experiments/defaults/curves.jsonl

DATA holds data sets in the hub's layout. Beside the tasks known by name there are `titles6` and `titles47`, in which
SQuAD's questions are sorted by the article they ask about, and `genre`, UD English EWT's sentences by where they were
written. SIZE 0 takes all examples; other sizes are drawn by the seed.
"""

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import bitfit
from bitfit.data.read.embedded import reviews


def _titles(data: Path, classes: int, train: int, validation: int) -> dict[str, pd.DataFrame]:
    """So many questions of so many articles, drawn among the articles with more than 200."""
    squad = pd.read_parquet(next((data / "squad").rglob("train*.parquet")))
    counts = squad.title.value_counts()
    titles = sorted(counts[counts > 200].index)
    random.Random(0).shuffle(titles)
    found: dict[str, list[pd.DataFrame]] = {"train": [], "validation": []}
    for title in titles[:classes]:
        questions = squad[squad.title == title].drop_duplicates("question")
        drawn = questions.sample(min(train + validation, len(questions)), random_state=0)
        found["validation"].append(drawn[:validation])
        found["train"].append(drawn[validation:])
    names = {"question": "text", "title": "label"}
    mixed = {name: pd.concat(parts).sample(frac=1, random_state=1) for name, parts in found.items()}
    return {name: frame.rename(columns=names)[["text", "label"]] for name, frame in mixed.items()}


def _genre(data: Path) -> dict[str, pd.DataFrame]:
    """A sentence's number begins with the kind of text that it is from."""
    files = {name: next((data / "ud_english_ewt").rglob(f"{name}*.parquet")) for name in ("train", "validation")}
    frames = {name: pd.read_parquet(file) for name, file in files.items()}
    return {
        name: pd.DataFrame({"text": frame.text, "label": frame.sent_id.str.split("-").str[0]})
        for name, frame in frames.items()
    }


def _sst2(data: Path) -> dict[str, pd.DataFrame]:
    """8,000 phrases; the validation is whole."""
    frames = {name: pd.read_parquet(next((data / "glue/sst2").glob(f"{name}*"))) for name in ("train", "validation")}
    frames["train"] = frames["train"].sample(8000, random_state=0)
    names = {"sentence": "text"}
    return {name: frame.rename(columns=names)[["text", "label"]].astype(str) for name, frame in frames.items()}


ASKED = {
    "person": "who|whose|whom",
    "time": "when|(in )?(what|which) year|(on )?what date",
    "place": "where|(in )?(what|which) (city|country|state)",
    "number": "how (many|much|long|far|old)",
    "reason": "why|what caused|what is the reason",
    "manner": "how|in what way",
}


def _asks(data: Path) -> dict[str, pd.DataFrame]:
    """SQuAD's questions by what they ask for, read off their first words; as many of each kind."""
    found = {}
    for name, count in (("train", 400), ("validation", 150)):
        frame = pd.read_parquet(next((data / "squad").rglob(f"{name}*.parquet"))).drop_duplicates("question")
        asked = [
            next((what for what, how in ASKED.items() if re.match(rf"({how})\b", text.strip().lower())), None)
            for text in frame.question
        ]
        frame = pd.DataFrame({"text": frame.question, "label": asked}).dropna()
        found[name] = frame.groupby("label").sample(count, random_state=0)
    return found


def _rotten_tomatoes() -> dict[str, pd.DataFrame]:
    """The embedded task as texts, so that examples of each class can be drawn."""
    return {name: split.to_pandas().astype({"label": str}) for name, split in reviews("rotten-tomatoes").items()}


def rows(data: Path, task: str) -> Any:
    """The splits of a task that is made here, else its name."""
    made = {
        "titles6": lambda: _titles(data, 6, 150, 80),
        "titles47": lambda: _titles(data, 47, 107, 20),
        "genre": lambda: _genre(data),
        "asks": lambda: _asks(data),
        "sst2-8000": lambda: _sst2(data),
        "rotten-tomatoes-texts": _rotten_tomatoes,
    }
    return made[task]() if task in made else task


def main(data: str, task: str, size: str, epochs: str, rates: str) -> None:
    """A line of JSON for each rate."""
    made = rows(Path(data), task)
    columns = {"text": "text", "label": "label"} if isinstance(made, dict) else {"data_dir": data}
    options = {"train_size": int(size) or None, "pool": "mean", "name": task if isinstance(made, dict) else None}
    configs = [bitfit.TrainConfig(learning_rate=float(rate), epochs=int(epochs)) for rate in rates.split(",")]
    for run in bitfit.trainrows("minilm", made, "bitfit", configs, options={**columns, **options}):
        metric = run.delta.task.metric
        line = {
            "task": task,
            "size": int(size),
            "rate": run.config.learning_rate,
            "metric": metric,
            "validation": [round(epoch["validation"][metric], 4) for epoch in run.history],
            "train loss": [round(epoch["train"]["loss"], 4) for epoch in run.history],
        }
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
