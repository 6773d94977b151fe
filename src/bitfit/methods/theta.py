"""One row: the values of a selection laid end to end, and back to named tensors.

Theta is the matrix of all rows, (rows, P).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.device import CPU
from bitfit.backbone.heads import head_names
from bitfit.methods.selection import Selection, Slot
from bitfit.runtime.dropout import Draws
from bitfit.runtime.row_model import RowModel


def with_whole_head(selection: Selection, model: PreTrainedModel) -> tuple[Slot, ...]:
    """The selection's slots, and each part of the head that does not train: it was drawn at random, so a row needs
    it too. Such a slot is inert."""
    trained = {slot.name for slot in selection.slots}
    untrained = [
        Slot(name, tuple(model.get_parameter(name).shape), None, inert=True, in_head=True)
        for name in head_names(model)
        if name not in trained
    ]
    return (*selection.slots, *untrained)


class ThetaMap:
    """Between theta and the tensors that a task model runs with. `fast` is the one that will train with them."""

    def __init__(
        self, slots: Sequence[Slot], model: nn.Module, fast: RowModel | None = None, device: torch.device = CPU
    ) -> None:
        device = device if fast is None else fast.device
        self.slots, self.fast, self.device = tuple(slots), fast, device
        self.filled: dict[str, Tensor] = {}  # matrices of a training pass, which the next one overwrites
        self.sizes = [slot.size for slot in self.slots]
        parameters = dict(model.named_parameters())
        # For a slot that is a part of its parameter: the rest, which stays the backbone's.
        self.rest = {s.name: parameters[s.name].detach().to(device) for s in self.slots if s.index is not None}
        self.start = _laid_out([parameters[slot.name].detach() for slot in self.slots], self.slots).to(device)
        self.index = {
            id(slot): torch.from_numpy(slot.index).to(device) for slot in self.slots if slot.index is not None
        }

    @property
    def size(self) -> int:
        """P: numbers in a row."""
        return sum(self.sizes)

    def starting_row(self, head: Mapping[str, Tensor]) -> Tensor:
        """A row before training: the backbone's values, and this head's."""
        row = self.start.clone()
        for slot, part in zip(self.slots, row.split(self.sizes), strict=True):
            if slot.name in head:
                part.copy_(_laid_out([head[slot.name]], [slot]))
        return row

    def decays(self) -> Tensor:
        """1 for each number that weight decay applies to, else 0; (P,)."""
        return torch.cat([torch.full((slot.size,), float(slot.decays and not slot.inert)) for slot in self.slots])

    def rates(self) -> Tensor | None:
        """What the learning rate of each number is multiplied with, (P,); None where all have the same."""
        return None

    def add_penalty(self, theta: Tensor) -> Tensor | None:
        """What is added to each row's loss, (rows,), with its gradient added to theta's; None for nothing."""
        del theta
        return None

    def drawn(self, theta: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The tensors of a training pass, good until the next; a method may draw them."""
        del draws
        return self.named(theta.split(self.sizes, dim=1), in_place=theta.shape[0] == 1)

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Each trained parameter by name: with a leading row dimension where there are several rows."""
        return self.named(theta.split(self.sizes, dim=1))

    def named(self, parts: Sequence[Tensor], in_place: bool = False) -> dict[str, Tensor]:
        """The parameters that the slots' values make, each (rows, size). `in_place`: elements of a matrix are put
        into the same whole one each time."""
        made: dict[str, Tensor] = {}
        for slot, part in zip(self.slots, parts, strict=True):
            values = part.detach() if slot.inert else part
            if slot.index is not None and in_place and len(slot.shape) > 1:
                whole = made[slot.name] if slot.name in made else self._buffer(slot.name)
                values = _Filled.apply(whole, values, self.index[id(slot)])  # type: ignore[no-untyped-call]
            elif slot.index is not None:
                values = self._filled(slot, values, made.get(slot.name))
            rows = part.shape[0]
            made[slot.name] = values.reshape(rows, *slot.shape) if rows > 1 else values.reshape(slot.shape)
        return made

    def _filled(self, slot: Slot, values: Tensor, before: Tensor | None) -> Tensor:
        """The whole parameter around a part of it."""
        rows = values.shape[0]
        whole = self.rest[slot.name].reshape(1, -1).expand(rows, -1) if before is None else before.reshape(rows, -1)
        return whole.scatter(1, self.index[id(slot)].expand(rows, -1), values)

    def _buffer(self, name: str) -> Tensor:
        """A copy of a whole parameter to put elements into, in the format that the task model computes with."""
        if name not in self.filled:
            kind = self.rest[name].dtype if self.fast is None else self.fast.format_of(name)
            self.filled[name] = self.rest[name].to(kind, copy=True).contiguous()
        return self.filled[name]


class _Filled(torch.autograd.Function):
    """Elements put into a whole parameter, in place; the way back picks their gradients out of the whole one's."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, values: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        result = whole.detach()
        result.view(-1).index_copy_(0, index, values[0].to(whole.dtype))
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (index,) = ctx.saved_tensors
        picked = grads[0].reshape(-1)[index].float()[None] if ctx.needs_input_grad[1] else None
        return grads[0] if ctx.needs_input_grad[0] else None, picked, None  # slots of a parameter share no element


def _laid_out(tensors: Sequence[Tensor], slots: Sequence[Slot]) -> Tensor:
    """The slots' values of these parameters, end to end, fp32."""
    parts = []
    for tensor, slot in zip(tensors, slots, strict=True):
        flat = tensor.reshape(-1).float()
        parts.append(flat if slot.index is None else flat[torch.from_numpy(slot.index)])
    return torch.cat(parts) if parts else torch.zeros(0)
