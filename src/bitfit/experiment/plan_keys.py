"""What may stand in a plan: each key with the kind of value it takes; knows no file and no meaning of a value."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, get_args

from bitfit.backbone.heads import HeadKind, Pool
from bitfit.errors import nearest
from bitfit.methods.slot import HeadMode
from bitfit.runtime.precision import Precision


@dataclass(frozen=True)
class Kind:
    """A kind of value, in words and as a check."""

    words: str
    fits: Callable[[Any], bool]
    known: tuple[str, ...] = ()  # the only texts allowed, where there is such a list

    def problem(self, place: str, value: Any) -> str:
        """What to say of a value that does not fit."""
        hint = f". {nearest(value, self.known)}" if self.known and isinstance(value, str) else ""
        return f"{place}: expected {self.words}, found {value!r}{hint}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    """A list with something in it, of such values, none of them twice."""
    return isinstance(value, list) and bool(value) and all(map(fits, value)) and len(set(value)) == len(value)


def _one_of(names: tuple[str, ...]) -> Kind:
    return Kind("one of " + ", ".join(names), lambda value: value in names, names)


TEXT = Kind("a text", lambda value: isinstance(value, str) and bool(value.strip()))
BOTH = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", _is_whole)
NUMBER = Kind("a number", _is_number)
TEXTS = Kind("a list of texts", lambda value: _is_list(value, TEXT.fits))
TABLE = Kind("a table of settings", lambda value: isinstance(value, dict))
LIST = Kind("a list with a name or a table for each", lambda value: isinstance(value, list) and bool(value))
SEEDS = Kind("a list of whole numbers, none of them twice", lambda value: _is_list(value, _is_whole))
RATES = Kind(
    "a number, or a list of numbers to choose from on validation, none of them twice",
    lambda value: _is_number(value) or _is_list(value, _is_number),
)

# How a run is trained: may stand in [settings], in a task or in a method.
SETTINGS: Mapping[str, Kind] = {
    "learning_rate": RATES,
    "seeds": SEEDS,
    "batch_size": WHOLE,
    "epochs": WHOLE,
    "schedule": _one_of(("linear", "constant")),
    "warmup": NUMBER,
    "clip": NUMBER,
    "weight_decay": NUMBER,
    "patience": WHOLE,
    "precision": _one_of(get_args(Precision)),
    "prefix_cache": BOTH,
}
# What is read and how: a task's own.
DATA: Mapping[str, Kind] = {
    "text": TEXT,
    "text_pair": TEXT,
    "label": TEXT,
    "tokens": TEXT,
    "tags": TEXT,
    "max_length": WHOLE,
    "train_size": WHOLE,
    "pool": _one_of(get_args(Pool)),
    "kind": _one_of(get_args(HeadKind)),
}
TASK: Mapping[str, Kind] = {"name": TEXT, "as": TEXT, **DATA, **SETTINGS}
METHOD: Mapping[str, Kind] = {"name": TEXT, "head": _one_of(get_args(HeadMode)), **SETTINGS}
PLAN: Mapping[str, Kind] = {
    "name": TEXT,
    "model": TEXT,
    "tasks": LIST,
    "methods": LIST,
    "seeds": SEEDS,
    "settings": TABLE,
    "notes": TEXTS,
}


def checked(
    place: str, table: Mapping[str, Any], keys: Mapping[str, Kind], needed: Collection[str], problems: list[str]
) -> dict[str, Any]:
    """The entries of a table that can be used; what is wrong with the others goes to `problems`."""
    at = f"{place}." if place else ""
    problems += [f"{at}{key}: no such key. {nearest(key, keys)}" for key in table if key not in keys]
    problems += [f"{at}{key}: expected {keys[key].words}, found nothing" for key in needed if key not in table]
    known = {key: value for key, value in table.items() if key in keys}
    problems += [keys[key].problem(f"{at}{key}", value) for key, value in known.items() if not keys[key].fits(value)]
    return {key: value for key, value in known.items() if keys[key].fits(value)}
