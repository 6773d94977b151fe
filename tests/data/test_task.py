"""A task or an option that no saved delta could hold is refused when it is made, with the way out."""

import re
from typing import Any

import pytest

import bitfit
from bitfit.errors import RequestError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"labels": ["a", "a"]}, "labels must be different names; 'a' is there twice; found ('a', 'a')"),
        ({"labels": [0, 1]}, "labels must be texts of at most 1000 characters; found (0, 1)"),
        ({"labels": "ab"}, "Expected a list of label names; found the text 'ab'"),
        ({"labels": 2}, "labels must be a list; found 2"),
        ({"kind": "clas"}, "There is no kind 'clas'. Did you mean 'class'?"),
        ({"pool": "max"}, "There is no pool 'max'."),
        ({"metrics": ["acuracy"]}, "There is no metric 'acuracy'. Did you mean 'accuracy'?"),
        ({"texts": ["a", "b", "c"]}, "texts must be the names of one column or two"),
        ({"max_length": "128"}, "max_length must be a whole number up to"),
        ({"name": ""}, "name must be a text of 1 to 1000 characters; found ''"),
    ],
)
def test_a_task_that_would_not_load_again_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        bitfit.Task(**{"name": "m", "labels": ["a", "b"], **given})


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (bitfit.Task("m"), "The task 'm' of kind 'class' needs its label names: labels=[...]; found ()"),
        (bitfit.Task("m", "number", labels=["a"]), "The task 'm' of kind 'number' has no labels; found ('a',)"),  # type: ignore[arg-type]
    ],
)
def test_a_task_has_labels_where_its_kind_has_them_before_it_has_a_head(task: bitfit.Task, words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        _ = task.head
    with pytest.raises(bitfit.errors.DeltaError, match=re.escape(words)):
        bitfit.Delta("b", "sha256:" + "0" * 64, "bitfit", "full", (), {}, task)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pool": "max"}, "There is no pool 'max'."),
        ({"kind": "clas"}, "There is no kind 'clas'. Did you mean 'class'?"),
        ({"max_length": "128"}, "Expected a whole number as max_length; found '128'"),
        ({"seed": None}, "Expected a whole number as seed; found None"),
        ({"text": ["a"]}, "Expected the name of one column as text; found ['a']"),
    ],
)
def test_an_option_that_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        bitfit.DataOptions(**given)
