"""A parameter that may change, or some of its elements."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bitfit.backbone.anatomy import Term

HeadMode = Literal["full", "bias", "frozen"]


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
