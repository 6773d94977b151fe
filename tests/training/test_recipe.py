"""What a run is given to read: texts no longer than its model's positions."""

import pyarrow as pa
import pytest

import bitfit
from bitfit.data.options import DataOptions
from bitfit.data.table import TaskTable
from bitfit.data.task import Task
from bitfit.errors import RequestError
from bitfit.inference.task_data import task_data
from tests.models import PLACES, tiny_backbone


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
