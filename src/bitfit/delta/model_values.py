"""A model's values at the slots of a delta, and whether it changed anywhere else."""

from collections.abc import Iterable, Mapping, Sequence
from types import EllipsisType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitfit.errors import DeltaError
from bitfit.methods.selection import Slot

# Where a slot's elements stand in its parameter: all of them, or one coordinate vector for each axis.
Where = EllipsisType | tuple[Tensor, ...]
LISTED = 5  # parameters that an error names


def read_values(slots: Sequence[Slot], model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Copies of what a model holds now at each slot, by key: what a delta of it would hold."""
    targets = located(slots, model)
    return {
        slot.key: parameter.detach()[where].cpu().numpy().copy()
        for slot, (parameter, where) in zip(slots, targets, strict=True)
    }


def located(slots: Sequence[Slot], model: nn.Module) -> list[tuple[nn.Parameter, Where]]:
    """Where each slot stands in a model; refuses a model that lacks one, before anything changes."""
    parameters = dict(model.named_parameters())
    return [(_fitting(slot, model, parameters), _where(slot)) for slot in slots]


def _where(slot: Slot) -> Where:
    if slot.index is None:
        return ...
    return torch.unravel_index(torch.from_numpy(slot.index), slot.shape)


def _fitting(slot: Slot, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> nn.Parameter:
    parameter = parameters.get(slot.name)
    if parameter is None:
        raise DeltaError(f"The delta changes '{slot.name}', which a {type(model).__name__} does not have.")
    if tuple(parameter.shape) != slot.shape:
        shape = tuple(parameter.shape)
        raise DeltaError(f"The delta's '{slot.name}' has the shape {slot.shape}; the model's has {shape}.")
    if parameter.is_meta:
        raise DeltaError("The model has no weights, only a configuration: a delta cannot be applied to it.")
    if parameter.dtype != torch.float32:
        raise DeltaError(
            f"The model's '{slot.name}' is {parameter.dtype}; a delta is exact only in float32: model.float()."
        )
    return parameter


def require_same(actual: Tensor, expected: Tensor, name: str, what: str) -> None:
    """Refuse values that do not have the very bits expected."""
    if not torch.equal(actual.view(torch.int32), expected.view(torch.int32)):
        raise DeltaError(f"'{name}' has other bits than it should after it was {what}.")


def check_same_parameters(model: nn.Module, backbone: nn.Module) -> None:
    """Refuse a trained model whose parameters have other names or shapes than the untouched task model's."""
    theirs, ours = dict(model.named_parameters()), dict(backbone.named_parameters())
    if unlike := [name for name in [*ours, *theirs] if _shape(name, theirs) != _shape(name, ours)]:
        raise DeltaError(
            f"Expected a {type(backbone).__name__} with the parameters of the task's model; found a "
            f"{type(model).__name__} that differs in {_listed(dict.fromkeys(unlike))}. Check the task's kind and "
            "labels, or train a copy.deepcopy(backbone.task_model(task.head))."
        )


def check_unchanged(slots: Sequence[Slot], model: nn.Module, backbone: nn.Module) -> None:
    """Refuse a trained model of the same parameters that differs, outside the slots, from the untouched task model."""
    theirs, ours = dict(model.named_parameters()), dict(backbone.named_parameters())
    if shared := [slot.name for slot in slots if theirs[slot.name] is ours[slot.name]]:
        raise DeltaError(
            f"The model shares {_listed(dict.fromkeys(shared))} with the backbone, so training it changed both. Train "
            "a copy.deepcopy(backbone.task_model(task.head)), or give the backbone as it is when loaded again."
        )
    by_name: dict[str, list[Slot]] = {}
    for slot in slots:
        by_name.setdefault(slot.name, []).append(slot)
    changed = [name for name in ours if _changed(theirs[name], ours[name], by_name.get(name, ()))]
    if changed:
        raise DeltaError(
            f"Outside the selection the model differs from the backbone in {_listed(changed)}, which a delta of the "
            "selection would lose. Call selection.freeze() before the optimizer is made, or select what was trained; "
            "parameters that the checkpoint lacks are drawn; a copy.deepcopy(backbone.task_model(task.head)) has them."
        )
    if altered := [*_altered_buffers(model, backbone), *_altered_epsilons(model, backbone)]:
        raise DeltaError(
            f"The model differs from the backbone in {_listed(altered)}, which no delta holds. "
            "Train a copy.deepcopy(backbone.task_model(task.head))."
        )


def _altered_buffers(model: nn.Module, backbone: nn.Module) -> list[str]:
    theirs, ours = dict(model.named_buffers()), dict(backbone.named_buffers())
    same = {name for name in ours if name in theirs and torch.equal(theirs[name].cpu(), ours[name].cpu())}
    return [name for name in dict.fromkeys([*ours, *theirs]) if name not in same]


def _altered_epsilons(model: nn.Module, backbone: nn.Module) -> list[str]:
    """Norms whose small number against division by zero is another."""
    theirs = dict(model.named_modules())
    return [
        f"{name}.{epsilon}"
        for name, module in backbone.named_modules()
        for epsilon in ("eps", "variance_epsilon")
        if getattr(module, epsilon, None) != getattr(theirs.get(name), epsilon, None)
    ]


def _shape(name: str, parameters: Mapping[str, nn.Parameter]) -> tuple[int, ...] | None:
    return tuple(parameters[name].shape) if name in parameters else None


def _changed(actual: nn.Parameter, expected: nn.Parameter, slots: Sequence[Slot]) -> bool:
    """Whether any bit differs that no slot holds."""
    if any(slot.index is None for slot in slots):
        return False
    bits = (value.detach().cpu().float().contiguous().view(-1).view(torch.int32) for value in (actual, expected))
    differs = torch.ne(*bits)
    for slot in slots:
        differs[torch.from_numpy(slot.index)] = False
    return bool(differs.any())


def _listed(names: Iterable[str]) -> str:
    every = [f"'{name}'" for name in names]
    more = f" and {len(every) - LISTED:,} more" if len(every) > LISTED else ""
    return ", ".join(every[:LISTED]) + more
