"""Every type that a public function or method takes or gives is a public name."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

import bitfit
from bitfit.backbone.device import Device
from bitfit.runtime.precision import Precision

CLASSES = sorted(name for name in bitfit.__all__ if inspect.isclass(getattr(bitfit, name)))
FUNCTIONS = sorted(name for name in bitfit.__all__ if inspect.isfunction(getattr(bitfit, name)))
# What bitfit's own rooms hand to one another through a public class; no user makes or reads one.
INTERNAL = {"Phase", "RowModel", "ThetaMap", "ExampleEncoder", "Budget", "Indexed"}
LINES = (
    *("Answer", "Backbone", "Delta", "Insertion", "Method", "Predictor", "Ranking", "Run"),
    *("Selection", "Task", "TaskData", "TaskTable"),
)
NAMES = {"Device": Device, "Precision": Precision}


def ours(annotation: Any) -> Iterator[type]:
    """The classes of bitfit in an annotation, however deep."""
    if inspect.isclass(annotation) and annotation.__module__.startswith("bitfit"):
        yield annotation
    for inner in get_args(annotation):
        for part in inner if isinstance(inner, list) else [inner]:  # Callable's parameters are a list
            yield from ours(part)


def hints(function: Any) -> Iterator[Any]:
    names = {name: getattr(bitfit, name) for name in bitfit.__all__}
    yield from get_type_hints(function, localns={**names, **NAMES}).values()


def missing(*annotations: Any) -> list[str]:
    public = {getattr(bitfit, name) for name in CLASSES}
    return [
        found.__name__
        for annotation in annotations
        for found in ours(annotation)
        if found not in public and found.__name__ not in INTERNAL
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_takes_and_gives_is_public(name: str) -> None:
    assert missing(*hints(getattr(bitfit, name))) == []


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_class_holds_takes_and_gives_is_public(name: str) -> None:
    kind = getattr(bitfit, name)
    assert missing(*hints(kind)) == []
    for member, value in vars(kind).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not member.startswith("_") and inspect.isfunction(function):
            assert missing(*hints(function)) == [], member


def test_every_public_name_says_what_it_is_for() -> None:
    for name in {*CLASSES, *FUNCTIONS}:
        assert inspect.getdoc(getattr(bitfit, name)), name


def test_no_public_repr_is_a_page() -> None:
    """A dataclass of arrays, models or many fields has a line of its own."""
    for name in LINES:
        assert "__repr__" in vars(getattr(bitfit, name)), name


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (bitfit.Answer("sad", {"glad": 0.12345678901, "sad": 0.87654321099}), "Answer('sad': sad 0.877, glad 0.123)"),
        (bitfit.Answer(0.12345678901234567), "Answer(0.123457)"),
        (bitfit.Answer(["B-x", None]), "Answer(['B-x', None])"),
        (bitfit.Insertion("lora", tuple("abc")), "Insertion('lora': 3 new parameters)"),
        (bitfit.Ranking("mood", "fisher", 1024, ()), "Ranking('mood' by fisher on 1,024 examples: 0 terms)"),
    ],
)
def test_a_repr_is_short(value: object, wanted: str) -> None:
    assert repr(value) == wanted
