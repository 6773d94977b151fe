"""Builds what trains: a task's model, plain and fast, and what the method lets change of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bitfit.backbone.task_model import head_start
from bitfit.methods.method import Phase
from bitfit.runtime.precision import trusted
from bitfit.runtime.row_model import RowModel
from bitfit.training.frozen_prefix import chosen_boundary
from bitfit.training.race import Lineup
from bitfit.training.recipe import Recipe, ResumableRequest
from bitfit.training.term_scores import Sample, term_scores


@dataclass(frozen=True, eq=False)
class Built:
    """A recipe's model, ready to train its first phase."""

    recipe: Recipe
    plain: PreTrainedModel  # as transformers has it: heads and new parameters of any seed are drawn with it
    model: RowModel
    compute: torch.dtype
    phase: Phase

    def start(self, seed: int, head: Mapping[str, Tensor] = MappingProxyType({})) -> Tensor:
        """A row before training, (P,): the backbone's values, and a head and new parameters drawn from the seed, but
        for those of `head`."""
        drawn = {**head_start(self.plain, seed), **head, **self.recipe.method.start(self.plain, seed)}
        return self.phase.theta.starting_row(drawn)

    @property
    def shares_a_pass(self) -> bool:
        """Can all rows of the recipe be trained together?"""
        return len(self.recipe.configs) == 1 or (may_share_a_pass(self.recipe) and self.takes_rows)

    @property
    def takes_rows(self) -> bool:
        """Can the model run several rows at once?"""
        return self.model.takes_rows(slot.name for slot in self.phase.theta.slots)

    @property
    def lineup(self) -> Lineup:
        """The rows that train: several for a config whose learning rates race."""
        configs, rates = self.recipe.configs, self.recipe.rates
        return Lineup.of(configs, rates if self.takes_rows else [()] * len(configs))


def may_share_a_pass(recipe: Recipe) -> bool:
    """Could several rows be trained together, as far as the method and the settings tell?"""
    method, configs = recipe.method, recipe.configs
    alike = len({(config.precision, config.prefix_cache, config.device) for config in configs}) == 1
    if method.reads_data:  # the sample that decides what changes depends on the seed
        alike = alike and len({config.seed for config in configs}) == 1
    few = any(config.few_shot == "on" for config in configs)  # their first stage is of one row
    return alike and method.shares_a_pass and not few


def build(recipe: Recipe, request: ResumableRequest, say: Callable[[str], None]) -> Built:
    """The model for a recipe's first row, and for the others if they share a pass.

    From the model's boundary on it trains; the layers below have no dropout.
    """
    head, config = recipe.data.task.head, recipe.configs[0]
    plain, inner = recipe.backbone.task_model(head), recipe.backbone.task_model(head)
    for one in (plain, inner):
        recipe.method.insert(one)
    device = request.device(config.device)
    compute = request.compute(trusted(config.precision, recipe.backbone.config.model_type), device)
    model = RowModel(inner, head, compute, device)
    phase = _first_phase(recipe, plain, model)
    names = [slot.name for slot in phase.theta.slots]
    model.boundary = chosen_boundary(model, names, config.prefix_cache, say)
    return Built(recipe, plain, model, compute, phase)


def _first_phase(recipe: Recipe, plain: PreTrainedModel, model: RowModel) -> Phase:
    """What trains first, on the model alone or with a look at the task's data."""
    method, config = recipe.method, recipe.configs[0]
    sample = Sample.of(plain, model, recipe.data, config) if method.reads_data else None
    scores = term_scores(sample, plain, short_run=False) if sample else ()
    assert config.learning_rate is not None
    return method.first_phase(plain, model, config.seed, config.learning_rate, scores)
