"""New parameters in a task model's tree, and the way back; knows nothing of what they are for.

A model carries one graft at a time. Its own parameters stay the same objects, so whoever shares them sees nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitfit.backbone.task_model import seeded
from bitfit.errors import RequestError
from bitfit.methods.name import MethodName
from bitfit.methods.slot import Slot

_MARK = "_bitfit_graft"

Undo = Callable[[], None]
# What a new parameter holds at the start: its name, its shape, and where draws come from.
Start = Callable[[str, torch.Size, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Graft:
    """What a method put into one model."""

    method: str
    names: tuple[str, ...]  # of the new parameters, in the model's order
    undo: Undo  # puts the tree back as it was


@dataclass(frozen=True)
class GraftFamily:
    """A family of methods that grafts."""

    insert: Callable[[nn.Module, MethodName], Undo]
    start: Start
    slots: Callable[[nn.Module, MethodName, Graft], list[Slot]]

    def __call__(self, model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
        """Graft if that was not done yet, and say what trains."""
        fresh = carried_by(model) is None
        graft = self.attach(model, name, seed)
        try:
            return self.slots(model, name, graft)
        except RequestError:
            if fresh:
                remove(model)
            raise

    def attach(self, model: nn.Module, name: MethodName, seed: int = 0) -> Graft:
        """The model's graft of this method; a model that carries another one is refused."""
        there = carried_by(model)
        if there is not None and there.method == name.text:
            return there
        if there is not None:
            raise RequestError(
                f"The model already carries the new parameters of '{there.method}', so '{name.text}' finds no "
                "untouched one. Use a fresh task model."
            )
        before = {id(parameter) for parameter in model.parameters()}
        with seeded(0):  # layers draw when they are made; what they drew is replaced below
            undo = self.insert(model, name)
        names = tuple(key for key, parameter in model.named_parameters() if id(parameter) not in before)
        graft = Graft(name.text, names, undo)
        object.__setattr__(model, _MARK, graft)
        with torch.no_grad():
            for key, value in self.starts(model, graft, seed).items():
                model.get_parameter(key).copy_(value)
        return graft

    def starts(self, model: nn.Module, graft: Graft, seed: int) -> dict[str, Tensor]:
        """What the new parameters hold at the start, a function of the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {name: model.get_parameter(name).shape for name in graft.names}
        if any(model.get_parameter(name).is_meta for name in graft.names):
            return {}
        return {name: self.start(name, shape, generator) for name, shape in shapes.items()}


def carried_by(model: nn.Module) -> Graft | None:
    """The graft that a model carries."""
    graft = getattr(model, _MARK, None)
    return graft if isinstance(graft, Graft) else None


def remove(model: nn.Module) -> None:
    """Take a model's graft out again; nothing happens where there is none."""
    graft = carried_by(model)
    if graft is not None:
        graft.undo()
        object.__delattr__(model, _MARK)


def swap(model: nn.Module, new: dict[str, nn.Module]) -> Undo:
    """Put modules where others of these names stand."""
    old = {name: model.get_submodule(name) for name in new}
    _place_all(model, new.items())
    return lambda: _place_all(model, old.items())


def _place_all(model: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> None:
    for name, module in modules:
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, module)
