"""The development suite's tasks: known ones, and some that are made of data sets in the hub's layout.

`titles6` and `titles47` sort SQuAD's questions by the article that they ask about, `asks` by what they ask for, and
`genre` UD English EWT's sentences by where they were written. `imdb-train` is made of IMDB's training reviews alone.
"""

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bitfit.data.read.embedded import reviews

Splits = dict[str, pd.DataFrame]


def splits(data: Path, task: str) -> Splits | str:
    """Train and validation of a task that is made here; the name of one that is known."""
    return MADE[task](data) if task in MADE else task


def options(data: Path, task: str) -> dict[str, Any]:
    """How its rows are to be read."""
    return {"text": "text", "label": "label", "name": task} if task in MADE else {"data_dir": data}


def _titles(data: Path, classes: int, train: int, validation: int) -> Splits:
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


def _genre(data: Path) -> Splits:
    """A sentence's number begins with the kind of text that it is from."""
    files = {name: next((data / "ud_english_ewt").rglob(f"{name}*.parquet")) for name in ("train", "validation")}
    frames = {name: pd.read_parquet(file) for name, file in files.items()}
    return {
        name: pd.DataFrame({"text": frame.text, "label": frame.sent_id.str.split("-").str[0]})
        for name, frame in frames.items()
    }


def _sst2(data: Path) -> Splits:
    """8,000 phrases to train; the validation is whole."""
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


def _asks(data: Path) -> Splits:
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


def _rotten_tomatoes(data: Path) -> Splits:
    """The embedded task as texts, so that examples of each class can be drawn."""
    del data
    found = reviews("rotten-tomatoes")
    return {name: found[name].to_pandas().astype({"label": str}) for name in ("train", "validation")}


def _imdb(data: Path) -> Splits:
    """24,000 reviews to draw from, and 1,000 to validate."""
    mixed = pd.read_parquet(next((data / "imdb").rglob("train*.parquet"))).sample(frac=1, random_state=0)
    return {
        name: frame[["text", "label"]].astype(str)
        for name, frame in (("train", mixed[:24_000]), ("validation", mixed[24_000:]))
    }


MADE: Mapping[str, Callable[[Path], Splits]] = {
    "titles6": lambda data: _titles(data, 6, 150, 80),
    "titles47": lambda data: _titles(data, 47, 107, 20),
    "genre": _genre,
    "asks": _asks,
    "sst2-8000": _sst2,
    "rotten-tomatoes-texts": _rotten_tomatoes,
    "imdb-train": _imdb,
}
