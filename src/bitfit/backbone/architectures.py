"""The table of architectures, read from its data file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Positions = Literal["absolute", "relative", "rotary", "disentangled"]
Fusion = Literal["thirds", "heads"]
Summary = Literal["first", "last"]
FirstPosition = Literal["zero", "after padding"]
UNKNOWN = "other"  # the role of what nobody knows


@dataclass(frozen=True)
class Architecture:
    """Where the parts of one `model_type` lie and what they are called in the paper."""

    model_type: str
    positions: Positions
    packed: bool  # takes batches without padding
    rows: bool  # takes the bias matrix
    layers: Mapping[str, Mapping[str, str]]  # path of a list of layers -> {path inside a layer: role}
    outside: Mapping[str, str]  # path in the base model -> role
    fused: Mapping[str, Fusion]  # path inside a layer -> how q, k and v lie in it
    summary: Summary  # the token that the architecture's own head reads of a text
    first_position: FirstPosition
    loose_dropout: bool  # calls dropout where it has no layer for it


@cache
def listed() -> dict[str, Architecture]:
    """Every architecture of the table, by model_type."""
    table = _table()
    return {name: _architecture(name, table) for name in table if name != "unlisted"}


def ends() -> Mapping[str, str]:
    """For architectures that are not listed: the end of a path inside a layer -> role."""
    known: Mapping[str, str] = _table()["unlisted"]["ends"]
    return known


def architecture(model_type: str) -> Architecture | None:
    """The table's entry, or None for an architecture that nobody listed."""
    return listed().get(model_type)


def unlisted_outside() -> Mapping[str, str]:
    """For architectures that are not listed: path in the base model -> role."""
    known: Mapping[str, str] = _table()["unlisted"]["outside"]
    return known


@cache
def known_roles() -> frozenset[str]:
    """Every role that a bias of some architecture can have."""
    of_layers = (roles.values() for entry in listed().values() for roles in entry.layers.values())
    outside = (entry.outside.values() for entry in listed().values())
    return frozenset({UNKNOWN, *ends().values(), *unlisted_outside().values()}.union(*of_layers, *outside))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("bitfit.backbone").joinpath("architectures.toml").read_text("utf-8"))


def _architecture(name: str, table: dict[str, Any]) -> Architecture:
    given = table[name]
    entry = {**table[given["like"]], **given} if "like" in given else given
    return Architecture(
        name,
        entry["positions"],
        entry["packed"],
        entry["rows"],
        entry["layers"],
        entry["outside"],
        entry.get("fused", {}),
        entry.get("summary", "first"),
        entry.get("first_position", "zero"),
        entry.get("loose_dropout", False),
    )
