"""A method's name becomes a selection and its rows, on the model alone or with a look at the task's data."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bitfit.backbone.packed import RowModel
from bitfit.backbone.task_model import head_start
from bitfit.data.examples import TaskData
from bitfit.methods.diff_pruning import FAMILY, GatedRows, is_structured, kept
from bitfit.methods.names import MethodName
from bitfit.methods.ranking import budget_of, ranked, spend
from bitfit.methods.row import RowMap, carried
from bitfit.methods.selection import HeadMode, Selection, assemble, select
from bitfit.training.config import TrainConfig
from bitfit.training.term_scores import Sample, term_scores


def resolve(
    plain: PreTrainedModel, model: RowModel, data: TaskData, method: str, head: HeadMode, config: TrainConfig
) -> tuple[Selection, RowMap]:
    """What trains in the first phase (for all but diff-pruning the only one), and how its values are laid out."""
    name = MethodName.parse(method)
    if name.family == FAMILY:
        return _gated(plain, name, head, config, model.device)
    if name.budget is not None:
        selection = _bought(plain, model, data, name, head, config)
    else:
        selection = select(plain, method, head, config.seed)
    return selection, RowMap(carried(selection, plain), plain, model)


def pruned(
    plain: PreTrainedModel, model: RowModel, selection: Selection, rows: GatedRows, theta: Tensor
) -> tuple[Selection, RowMap, Tensor]:
    """After the gates: what is left to train, its rows, and where they go on from, (1, P)."""
    slots, values = rows.pruned(theta, kept(plain))
    sparse = assemble(plain, selection.method, selection.head, slots)
    left = RowMap(carried(sparse, plain), plain, model)
    return sparse, left, left.starting_row({**values, **rows.head_of(theta)})[None]


def sample_of(plain: PreTrainedModel, model: RowModel, data: TaskData, config: TrainConfig) -> Sample:
    """All biases of a model, ready to be tried on a task's data."""
    every = select(plain, "bitfit", "full", config.seed)
    rows = RowMap(carried(every, plain), plain, device=model.device)
    return Sample(model, rows, data, rows.starting_row(head_start(plain, config.seed)), config)


def _gated(
    plain: PreTrainedModel, name: MethodName, head: HeadMode, config: TrainConfig, device: torch.device
) -> tuple[Selection, RowMap]:
    structured = is_structured(name)
    every = replace(select(plain, "full", head, config.seed), method=name.text)
    assert config.learning_rate is not None
    return every, GatedRows(carried(every, plain), plain, structured, config.learning_rate, device)


def _bought(
    plain: PreTrainedModel, model: RowModel, data: TaskData, name: MethodName, head: HeadMode, config: TrainConfig
) -> Selection:
    """The terms that a budget buys, in the order of their gradients."""
    budget = budget_of(plain, name)
    order = ranked(term_scores(sample_of(plain, model, data, config), plain, short_run=False))
    chosen = {(term.name, term.part) for term in spend(order, budget)}
    every = select(plain, "bitfit", "frozen", config.seed)
    return assemble(plain, name.text, head, [slot for slot in every.slots if (slot.name, slot.part) in chosen])
