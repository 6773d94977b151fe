"""A method's name becomes a selection and its rows, on the model alone or with a look at the task's data."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bitfit.backbone.task_model import head_start
from bitfit.data.examples import TaskData
from bitfit.methods.budget import budget_of, choose_terms, ranked
from bitfit.methods.diff_pruning import FAMILY, GatedTheta, is_structured, kept
from bitfit.methods.name import MethodName
from bitfit.methods.selection import HeadMode, Selection, assemble, select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.row_model import RowModel
from bitfit.training.config import TrainConfig
from bitfit.training.term_scores import Sample, term_scores


def resolve(
    plain: PreTrainedModel, model: RowModel, data: TaskData, method: str, head: HeadMode, config: TrainConfig
) -> tuple[Selection, ThetaMap]:
    """What trains in the first phase (for all but diff-pruning the only one), and how its values are laid out."""
    name = MethodName.parse(method)
    if name.family == FAMILY:
        return _gated(plain, name, head, config, model.device)
    if name.budget is not None:
        selection = _bought(plain, model, data, name, head, config)
    else:
        selection = select(plain, method, head, config.seed)
    return selection, ThetaMap(with_whole_head(selection, plain), plain, model)


def pruned(
    plain: PreTrainedModel, model: RowModel, selection: Selection, rows: GatedTheta, theta: Tensor
) -> tuple[Selection, ThetaMap, Tensor]:
    """After the gates: what is left to train, its rows, and where they go on from, (1, P)."""
    slots, values = rows.pruned(theta, kept(plain))
    sparse = assemble(plain, selection.method, selection.head, slots)
    left = ThetaMap(with_whole_head(sparse, plain), plain, model)
    return sparse, left, left.starting_row({**values, **rows.head_of(theta)})[None]


def sample_of(plain: PreTrainedModel, model: RowModel, data: TaskData, config: TrainConfig) -> Sample:
    """All biases of a model, ready to be tried on a task's data."""
    every = select(plain, "bitfit", "full", config.seed)
    rows = ThetaMap(with_whole_head(every, plain), plain, device=model.device)
    return Sample(model, rows, data, rows.starting_row(head_start(plain, config.seed)), config)


def _gated(
    plain: PreTrainedModel, name: MethodName, head: HeadMode, config: TrainConfig, device: torch.device
) -> tuple[Selection, ThetaMap]:
    structured = is_structured(name)
    every = replace(select(plain, "full", head, config.seed), method=name.text)
    assert config.learning_rate is not None
    return every, GatedTheta(with_whole_head(every, plain), plain, structured, config.learning_rate, device)


def _bought(
    plain: PreTrainedModel, model: RowModel, data: TaskData, name: MethodName, head: HeadMode, config: TrainConfig
) -> Selection:
    """The terms that a budget buys, in the order of their gradients."""
    budget = budget_of(plain, name)
    order = ranked(term_scores(sample_of(plain, model, data, config), plain, short_run=False))
    chosen = {(term.name, term.part) for term in choose_terms(order, budget)}
    every = select(plain, "bitfit", "frozen", config.seed)
    return assemble(plain, name.text, head, [slot for slot in every.slots if (slot.name, slot.part) in chosen])
