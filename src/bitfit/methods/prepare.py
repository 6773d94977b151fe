"""Brings a task model into the shape that a method needs; knows nothing of data.

Some methods put new parameters into it; some choose what changes on a task's data, and are only checked here.
"""

from torch import Tensor, nn

from bitfit.errors import RequestError
from bitfit.methods.budget import budget_of
from bitfit.methods.diff_pruning import FAMILY, is_structured
from bitfit.methods.grafts import Graft, GraftFamily, carried_by, remove
from bitfit.methods.name import MethodName
from bitfit.methods.registry import FAMILIES
from bitfit.methods.selection import HeadMode, check_head_mode, select

__all__ = ["carried_by", "check", "graft", "graft_start", "is_graft", "remove"]


def is_graft(method: str) -> bool:
    """Does this method put new parameters into a model?"""
    return _graft_family(method) is not None


def graft(model: nn.Module, method: str, seed: int = 0) -> Graft | None:
    """Put the method's new parameters into a task model; None where the method has none."""
    found = _graft_family(method)
    return None if found is None else found[0].attach(model, found[1], seed)


def graft_start(model: nn.Module, method: str, seed: int) -> dict[str, Tensor]:
    """What the new parameters of a grafted model hold at the start, for any seed."""
    found = _graft_family(method)
    there = carried_by(model)
    return {} if found is None or there is None else found[0].starts(model, there, seed)


def check(model: nn.Module, method: str, head: HeadMode) -> None:
    """Refuse a method that does not fit, before any data is read; may leave new parameters in the model."""
    name = MethodName.parse(method)
    check_head_mode(head)
    if name.family == FAMILY:
        is_structured(name)
    elif name.budget is not None:
        budget_of(model, name)
    else:
        select(model, method, head)


def _graft_family(method: str) -> tuple[GraftFamily, MethodName] | None:
    """The family, for a name that grafts; a name that is none of ours grafts nothing."""
    try:
        name = MethodName.parse(method)
    except RequestError:
        return None
    family = FAMILIES.get(name.family)
    return (family, name) if isinstance(family, GraftFamily) else None
