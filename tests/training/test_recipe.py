"""What a run is given to read: texts no longer than its model's positions."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import bitfit
from bitfit.data.options import DataOptions
from bitfit.data.table import TaskTable
from bitfit.data.task import Task
from bitfit.errors import RequestError
from bitfit.inference.task_data import task_data
from tests.models import PLACES, tiny, tiny_backbone, tiny_tokenizer


def long_texts(max_length: int) -> TaskTable:
    task = Task("long", "class", ("text",), "label", ("no", "yes"), max_length=max_length)
    texts = [f"w{4 + row} " * (2 * PLACES) for row in range(4)]
    rows = pa.table({"text": texts, "label": pa.array([0, 1, 0, 1], pa.int64())})
    return TaskTable(task, {"train": rows, "validation": rows})


def test_a_tasks_own_length_is_lowered_to_what_the_model_reads() -> None:
    backbone = tiny_backbone("roberta")
    data = task_data(backbone, long_texts(2 * PLACES), DataOptions())
    assert data.task.max_length == PLACES - 1
    assert f"long: texts are cut at {PLACES - 1} pieces, the most that 'tiny-roberta' reads" in data.notes
    run = bitfit.train(backbone, data, config=bitfit.TrainConfig(epochs=1))
    assert run.delta.task.max_length == PLACES - 1


def test_a_length_that_was_asked_for_is_refused() -> None:
    options = DataOptions(max_length=2 * PLACES)
    with pytest.raises(RequestError, match=f"at most {PLACES} pieces; found a maximum length of {2 * PLACES}"):
        task_data(tiny_backbone("bert"), long_texts(2 * PLACES), options)


def test_a_model_that_reads_any_length_is_left_alone() -> None:
    data = task_data(tiny_backbone("llama"), long_texts(2 * PLACES), DataOptions())
    assert data.task.max_length == 2 * PLACES


def test_a_models_folder_and_a_dict_of_settings_are_enough(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    texts, labels = [f"w{5 + number % 40} w7" for number in range(20)], ["no", "yes"] * 10
    settings = {
        "epochs": np.int64(1),
        "seed": np.int32(3),
        "learning_rate": np.float64(0.5) / 2**6,
        "precision": "fp32",
    }
    run = bitfit.train(tmp_path, (texts, labels), config=settings)
    wanted = bitfit.TrainConfig(learning_rate=2**-7, epochs=1, seed=3, precision="fp32")
    again = bitfit.train(bitfit.load(tmp_path), (texts, labels), "bitfit", wanted)
    assert run.delta.to_bytes() == again.delta.to_bytes()
    assert repr(run).startswith("Run('bitfit' on 'in-memory': train accuracy 0.")
    order = bitfit.rank(str(tmp_path), (texts, labels), {"seed": 3, "precision": "fp32"}, short_run=False)
    assert order.task == "in-memory"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"epoch": 1}, "There is no setting 'epoch'. Did you mean 'epochs'?"),
        (3, "Expected a TrainConfig or a dict of its settings; found 3"),
        ({"epochs": 0}, "epochs must be a whole number from 1 on, found 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(config: Any, words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        bitfit.train(tiny_backbone("bert"), (["w5"], ["no"]), config=config)


def test_what_is_no_watcher_is_refused_wherever_one_is_taken() -> None:
    with pytest.raises(RequestError, match=r"Expected a bitfit\.Watcher; found <built-in function print>"):
        bitfit.rank(tiny_backbone("bert"), (["w5", "w6"] * 9, ["no", "yes"] * 9), watcher=print)  # type: ignore[arg-type]


def test_settings_are_keywords_of_train_and_options_may_be_a_dict() -> None:
    backbone, rows = tiny_backbone("bert"), ([f"w{5 + number % 40} w7" for number in range(20)], ["no", "yes"] * 10)
    wanted = bitfit.train(backbone, rows, config={"epochs": 1, "seed": 3}, options=DataOptions(max_length=9))
    found = bitfit.train(backbone, rows, epochs=1, seed=3, options={"max_length": 9})
    changed = bitfit.train(backbone, rows, config={"epochs": 1, "seed": 4}, options={"max_length": 9}, seed=3)
    assert found.delta.to_bytes() == wanted.delta.to_bytes() == changed.delta.to_bytes()
    assert set(bitfit.TrainSettings.__annotations__) == {field.name for field in fields(bitfit.TrainConfig)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epoch": 1}, "There is no setting 'epoch'. Did you mean 'epochs'?"),
        ({"lr": 1e-3}, "There is no setting 'lr'. Did you mean 'learning_rate'?"),
        ({"config": {"wd": 0.1}}, "There is no setting 'wd'. Did you mean 'weight_decay'?"),
        ({"max_length": 16}, "'max_length' is an option of the data: options={'max_length': 16}."),
        ({"watcher": print}, "Expected a bitfit.Watcher; found <built-in function print>."),
        ({"checkpoints": "here"}, "Expected Checkpoints, as in bitfit.Checkpoints(folder); found 'here'."),
        ({"watchr": None}, "There is no setting 'watchr'. Did you mean 'watcher'?"),
        ({"options": {"txt": "a"}}, "There is no data option 'txt'. Did you mean 'text'?"),
        ({"options": "text"}, "Expected DataOptions or a dict of them; found 'text'"),
    ],
)
def test_a_misspelt_keyword_of_train_names_the_nearest(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=re.escape(words)):
        bitfit.train(tiny_backbone("bert"), (["w5"], ["no"]), **given)


def test_a_revision_that_was_asked_for_is_kept_in_the_delta() -> None:
    backbone = replace(tiny_backbone("bert"), revision="v2")
    texts, labels = [f"w{5 + number % 40} w7" for number in range(20)], ["no", "yes"] * 10
    delta = bitfit.train(backbone, (texts, labels), config={"epochs": 1}).delta
    assert bitfit.Delta.from_bytes(delta.to_bytes()).settings["revision"] == "v2"
