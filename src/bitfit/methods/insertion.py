"""New parameters in a task model's tree, and the way back.

A model carries the parameters of one method at a time. Its own parameters stay the same objects, so whoever shares
them sees nothing.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitfit.backbone.task_model import seeded
from bitfit.errors import RequestError

_MARK = "_bitfit_insertion"

Undo = Callable[[], None]


def nothing() -> None:
    """The way back where nothing was put in."""


@dataclass(frozen=True, eq=False, repr=False)
class Insertion:
    """What a method put into one model."""

    method: str
    names: tuple[str, ...] = ()  # of the new parameters, in the model's order
    undo: Undo = nothing  # leaves the model as it was; a second call does nothing

    def __repr__(self) -> str:
        return f"Insertion({self.method!r}: {len(self.names)} new parameters)"


def maybe_get_insertion(model: nn.Module) -> Insertion | None:
    """What a model carries."""
    insertion = getattr(model, _MARK, None)
    return insertion if isinstance(insertion, Insertion) else None


def check_untouched(model: nn.Module, method: str) -> None:
    """Refuse a model that carries the new parameters of another method: its own may have other names by them."""
    carried = maybe_get_insertion(model)
    if carried is not None and carried.method != method:
        raise RequestError(
            f"The model carries the new parameters of '{carried.method}', so '{method}' finds no untouched one. Use a "
            "fresh task model, or call `undo` of what `insert` gave."
        )


def insert(model: nn.Module, method: str, put_in: Callable[[nn.Module], Undo]) -> Insertion:
    """Call `put_in` on the model and note what is new in it.

    Where the model carries this method's parameters already they stay, and undoing is left to whoever put them in.
    """
    carried = maybe_get_insertion(model)
    if carried is not None:
        check_untouched(model, method)
        return Insertion(method, carried.names)
    before = {id(parameter) for parameter in model.parameters()}
    with seeded(0):  # layers draw when they are made; what they drew is replaced afterwards
        undo = put_in(model)
    new = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in before}
    for parameter in new.values():
        parameter.requires_grad_(False)  # as the rest of the model's, until a selection says what trains

    def take_out() -> None:
        if maybe_get_insertion(model) is insertion:
            undo()
            object.__delattr__(model, _MARK)

    insertion = Insertion(method, tuple(new), take_out)
    object.__setattr__(model, _MARK, insertion)
    return insertion


def fill(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Write values into parameters of these names."""
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)


def copy_tree(model: nn.Module) -> nn.Module:
    """The same tree of modules over the same tensors: what is put into it does not show in the model."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def swap(model: nn.Module, new: dict[str, nn.Module]) -> Undo:
    """Put modules where others of these names stand."""
    old = {name: model.get_submodule(name) for name in new}
    put_all(model, new.items())
    return lambda: put_all(model, old.items())


def put_all(model: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Set modules by their dotted names."""
    for name, module in modules:
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, module)
