"""The development suite's tasks: known ones, and some that are made of data sets in the hub's layout.

`titles6` and `titles47` sort SQuAD's questions by the article that they ask about, `genre` sorts UD English EWT's
sentences by where they were written.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

MOST_VALIDATION = 500  # rows, drawn once: every epoch of every run reads them


def rows(data: Path, task: str) -> dict[str, pd.DataFrame] | str:
    """Train and validation of a task that is made; the name of one that is known."""
    return MADE[task](data) if task in MADE else task


def options(data: Path, task: str) -> dict[str, Any]:
    """How the rows are to be read."""
    return {"text": "text", "label": "label", "name": task} if task in MADE else {"data_dir": data}


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
    """8,000 phrases to train."""
    frames = {name: pd.read_parquet(next((data / "glue/sst2").glob(f"{name}*"))) for name in ("train", "validation")}
    frames["train"] = frames["train"].sample(8000, random_state=0)
    return {
        name: frame.rename(columns={"sentence": "text"})[["text", "label"]].astype(str)
        for name, frame in frames.items()
    }


def _imdb(data: Path) -> dict[str, pd.DataFrame]:
    """The training reviews alone: 24,000 to draw from, and the rest to validate."""
    reviews = pd.read_parquet(next((data / "imdb").rglob("train*.parquet"))).sample(frac=1, random_state=0)
    parts = {"train": reviews[:24_000], "validation": reviews[24_000:]}
    return {name: frame[["text", "label"]].astype(str) for name, frame in parts.items()}


def _cut(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    validation = frames["validation"]
    return {**frames, "validation": validation.sample(min(len(validation), MOST_VALIDATION), random_state=0)}


MADE: dict[str, Callable[[Path], dict[str, pd.DataFrame]]] = {
    "titles6": lambda data: _cut(_titles(data, 6, 150, 80)),
    "titles47": lambda data: _cut(_titles(data, 47, 107, 20)),
    "genre": lambda data: _cut(_genre(data)),
    "sst2-8000": lambda data: _cut(_sst2(data)),
    "imdb-train": lambda data: _cut(_imdb(data)),
}
