"""What a method lets change, resolved on one model.

Freezing, counting, the optimizer and the saved file all come from the same Selection, so what trained is
what is saved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.anatomy import Term, encoder_prefix, is_bias
from bitfit.backbone.heads import cancelled_names
from bitfit.errors import RequestError, nearest

HeadMode = Literal["full", "bias", "frozen"]
_HEAD_MODES: tuple[HeadMode, ...] = ("full", "bias", "frozen")
_HOOK = "_bitfit_hook"


@dataclass(frozen=True, eq=False)
class Slot:
    """One parameter that changes, or the elements of it that do."""

    name: str  # parameter name in the task model
    shape: tuple[int, ...]  # the parameter's
    index: NDArray[np.int64] | None = None  # flat elements that change, sorted; None: the whole parameter
    inert: bool = False  # counted and saved, its gradient is written as zero
    in_head: bool = False
    part: str = ""  # tells slots of one parameter apart: "query", "key", ...; empty for the only one

    @classmethod
    def of_parameter(cls, model: nn.Module, name: str) -> "Slot":
        """A whole parameter of the encoder."""
        return cls(name, tuple(model.get_parameter(name).shape))

    @classmethod
    def of_term(cls, model: nn.Module, term: Term) -> "Slot":
        """One bias, or the part of a fused one that belongs to a role."""
        shape = tuple(model.get_parameter(term.name).shape)
        return cls(term.name, shape, term.index, term.inert, term.role == "head", term.part)

    @property
    def key(self) -> str:
        """The name under which its values are kept: the parameter's, with the part after a colon."""
        return f"{self.name}:{self.part}" if self.part else self.name

    @property
    def size(self) -> int:
        """Elements that change."""
        return int(np.prod(self.shape, dtype=np.int64)) if self.index is None else len(self.index)

    @property
    def decays(self) -> bool:
        """Whether weight decay applies: to matrices, not to biases and norms."""
        return len(self.shape) > 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Slot):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        index = None if self.index is None else self.index.tobytes()
        return (self.name, self.shape, index, self.inert, self.in_head, self.part)


@dataclass(frozen=True)
class Selection:
    """An ordered choice of slots: equal where method, head mode and slots are."""

    method: str
    head: HeadMode
    slots: tuple[Slot, ...]  # in the model's parameter order
    model: nn.Module = field(compare=False, repr=False)

    @property
    def size(self) -> int:
        """Elements that change, inert ones counted."""
        return sum(slot.size for slot in self.slots)

    def __repr__(self) -> str:
        total = sum(parameter.numel() for parameter in self.model.parameters())
        share = f"{self.size:,} of {total:,} parameters, {self.size / total:.3%}"
        where = f"in {len(self.slots)} slots{self._inert()}"
        return f"Selection({self.method!r}, head={self.head!r}: {share}, {where})"

    def _inert(self) -> str:
        """How many elements stay as they are, and why."""
        sizes = {
            owner: sum(slot.size for slot in self.slots if slot.inert and slot.in_head == in_head)
            for owner, in_head in (("keys' biases", False), ("biases of the head", True))
        }
        parts = [f"{size:,} in {owner}" for owner, size in sizes.items() if size]
        return f"; {' and '.join(parts)} stay as they are, since softmax cancels them" if parts else ""

    def values(self) -> dict[str, Tensor]:
        """A copy of what the slots hold, by key: 1-D for chosen elements, else in the parameter's shape."""
        copies = {}
        for slot in self.slots:
            tensor = self.model.get_parameter(slot.name).detach()
            copies[slot.key] = tensor.clone() if slot.index is None else tensor.flatten()[torch.from_numpy(slot.index)]
        return copies

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters to give to an optimizer, in the model's order: those of which some element can move."""
        names = dict.fromkeys(slot.name for slot in self.slots if not slot.inert)
        return [self.model.get_parameter(name) for name in names]

    def freeze(self) -> None:
        """Make any training loop train this and nothing else. Call it before building the optimizer.

        Parameters outside get no gradient. Where only some elements of a parameter are chosen, a hook
        writes zero to the gradient of the others, inert parts of a fused projection among them. A parameter
        that is inert as a whole gets no gradient at all.

        What this cannot guard: an optimizer that moves elements whose gradient is zero, as weight decay,
        noise, or momentum left from an earlier run do. Where elements are chosen one by one (the random
        methods, parts of a fused projection) give the optimizer a weight decay of 0.
        """
        alive: dict[str, list[Slot]] = {}
        for slot in self.slots:
            if not slot.inert:
                alive.setdefault(slot.name, []).append(slot)
        for name, parameter in self.model.named_parameters():
            _drop_hook(parameter)
            parameter.requires_grad_(name in alive)
            if name in alive:
                _guard(parameter, alive[name])


def assemble(model: nn.Module, method: str, head: HeadMode, encoder: Sequence[Slot]) -> Selection:
    """The selection of these slots of the encoder and what trains of the head."""
    check_head_mode(head)
    slots = [*encoder, *head_slots(model, head)]
    if not slots:
        raise RequestError(
            f"'{method}' with the head '{head}' trains nothing in {type(model).__name__}. "
            "Choose a method that trains biases, or a model with a head that may change."
        )
    order = {parameter: number for number, (parameter, _) in enumerate(model.named_parameters())}
    return Selection(method, head, tuple(sorted(slots, key=lambda slot: order[slot.name])), model)


def check_head_mode(head: str) -> None:
    """Refuse a word that says nothing of the head."""
    if head not in _HEAD_MODES:
        raise RequestError(f"The head trains 'full', 'bias' or 'frozen'; found '{head}'. {nearest(head, _HEAD_MODES)}")


def head_slots(model: nn.Module, mode: HeadMode) -> list[Slot]:
    """What trains of the task head; nothing in a base model."""
    prefix = encoder_prefix(model)
    if mode == "frozen" or not prefix:
        return []
    modules = dict(model.named_modules())
    cancelled = cancelled_names(cast(PreTrainedModel, model))
    slots = []
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        if not name.startswith(prefix) and (mode == "full" or is_bias(modules[path], leaf, parameter)):
            slots.append(Slot(name, tuple(parameter.shape), inert=name in cancelled, in_head=True))
    return slots


def _guard(parameter: nn.Parameter, slots: list[Slot]) -> None:
    """Write zero to the gradient of every element that no slot holds."""
    if any(slot.index is None for slot in slots):
        return
    mask = torch.zeros(parameter.numel(), dtype=torch.bool)
    for slot in slots:
        if slot.index is not None:
            mask[torch.from_numpy(slot.index)] = True
    outside = mask.logical_not().view(parameter.shape)

    def zero_the_rest(gradient: Tensor) -> Tensor:
        return gradient.masked_fill(outside.to(gradient.device), 0)

    register = cast(Callable[[Callable[[Tensor], Tensor]], Any], parameter.register_hook)
    setattr(parameter, _HOOK, register(zero_the_rest))


def _drop_hook(parameter: nn.Parameter) -> None:
    hook = getattr(parameter, _HOOK, None)
    if hook is not None:
        hook.remove()
        delattr(parameter, _HOOK)
