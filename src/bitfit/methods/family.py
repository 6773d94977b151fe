"""What every family of methods must say: what changes, its rate, its phases.

A family is a class in a file of its own, and a line in the table of `registry`. An instance is made from a name and
refuses what is wrong in it, as far as that can be told without a model.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.anatomy import sites
from bitfit.errors import RequestError
from bitfit.methods.budget import Scored
from bitfit.methods.insertion import Insertion, Undo, copy_tree, fill, insert, maybe_get_insertion
from bitfit.methods.name import MethodName
from bitfit.methods.selection import Slot
from bitfit.methods.theta import ThetaMap
from bitfit.runtime.row_model import RowModel

BIAS_LEARNING_RATE = 4e-3  # that falls to zero: some 80 times that of full fine-tuning (experiments/defaults)
LEVEL_BIAS_LEARNING_RATE = 1e-3  # that stays as it is: the largest of the BitFit paper's grid


@dataclass(frozen=True)
class Family(ABC):
    """A family as one name asks for it. The defaults are those of a method that trains vectors of the model's own."""

    name: MethodName

    learning_rate: ClassVar[float] = BIAS_LEARNING_RATE  # where none is given
    shares_a_pass: ClassVar[bool] = False  # vectors alone change, so that runs share every matrix product
    averages: ClassVar[bool] = True  # several deltas of it can be averaged element by element
    is_bias_method: ClassVar[bool] = False  # what changes are the model's own biases, by name
    head_alone: ClassVar[bool] = False  # nothing of the encoder changes
    phases: ClassVar[tuple[str, ...]] = ("",)  # of training, one after another; the only one needs no name

    def __post_init__(self) -> None:  # noqa: B027 - a family that takes any name need not say so
        """Refuse what is wrong in the name."""

    @property
    def reads_data(self) -> bool:
        """Whether what changes is chosen on a task's data, by `choose`."""
        return False

    @property
    def inserts(self) -> bool:
        """Whether it puts new parameters into the model."""
        return False

    @property
    def level_learning_rate(self) -> float:
        """The rate where none is given and it does not fall: one of a family's own is both."""
        return LEVEL_BIAS_LEARNING_RATE if self.learning_rate == BIAS_LEARNING_RATE else self.learning_rate

    # ------------------------------------------------------------------ on a model

    @abstractmethod
    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        """What changes of the encoder, in the first phase where there are several."""

    def count(self, model: nn.Module) -> int:
        """How many elements of the encoder it changes in the end."""
        return sum(slot.size for slot in self.slots(model, 0))

    def check(self, model: nn.Module) -> None:
        """Refuse a model that does not suit."""
        self.slots(model, 0)

    def choose(self, model: nn.Module, scores: Sequence[Scored]) -> list[Slot]:
        """What changes, where the data have a say: of all biases, scored on them."""
        del scores
        return self.slots(model, 0)

    def insert(self, model: nn.Module, seed: int) -> Insertion:
        """Put the method's new parameters into a model, as the seed draws them."""
        del model, seed
        return Insertion(self.name.text)

    def starts(self, model: nn.Module, seed: int) -> dict[str, Tensor]:
        """What the new parameters of a model hold at the start, by name."""
        del model, seed
        return {}

    def maybe_get_ordinary(self, model: PreTrainedModel) -> PreTrainedModel | None:
        """The trained model as transformers knows its architecture, which `model` may become; None if it cannot be."""
        return model

    # ------------------------------------------------------------------ in training

    def theta(self, slots: Sequence[Slot], model: PreTrainedModel, fast: RowModel, rate: float) -> ThetaMap:
        """How the values are laid out in the first phase; `rate` is the learning rate."""
        del rate
        return ThetaMap(slots, model, fast)

    def next_phase(
        self, model: PreTrainedModel, theta: ThetaMap, values: Tensor
    ) -> tuple[list[Slot], dict[str, Tensor]]:
        """What of the encoder trains on after a phase, and the parameters from which it does; `values` is (1, P)."""
        del model
        return [slot for slot in theta.slots if not slot.in_head], theta.tensors(values)

    # ------------------------------------------------------------------ for families

    def chosen_layers(self, model: nn.Module) -> frozenset[int]:
        """The numbers of the layers that the name asks for; all of them where it names none."""
        return self.name.chosen_layers(layer_count(model))

    def refuse_terms(self) -> None:
        """For families whose name takes no words in brackets."""
        if self.name.terms:
            raise RequestError(
                f"'{self.name.family}' takes no terms in brackets; found '{self.name.text}'. Only 'bitfit' does."
            )


class InsertingFamily(Family):
    """A family that puts new parameters into the model; they are what changes."""

    @property
    def inserts(self) -> bool:
        return True

    @abstractmethod
    def put_in(self, model: nn.Module) -> Undo:
        """Put the new parameters into the model's tree, and say how to take them out."""

    @abstractmethod
    def start(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """What one new parameter holds at the start."""

    def insert(self, model: nn.Module, seed: int) -> Insertion:
        insertion = insert(model, self.name.text, self.put_in)
        fill(model, self.starts(model, seed))
        return insertion

    def starts(self, model: nn.Module, seed: int) -> dict[str, Tensor]:
        """A function of the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {name: model.get_parameter(name).shape for name in self.inserted(model)}
        if any(model.get_parameter(name).is_meta for name in shapes):
            return {}
        return {name: self.start(name, shape, generator) for name, shape in shapes.items()}

    def inserted(self, model: nn.Module) -> tuple[str, ...]:
        """The names of the new parameters in a model that carries them; another is refused."""
        carried = maybe_get_insertion(model)
        if carried is None or carried.method != self.name.text:
            text = self.name.text
            raise RequestError(
                f"'{text}' puts new parameters into a model, and this {type(model).__name__} does not have them. Put "
                f"them in first: bitfit.Method.parse('{text}').insert(model)."
            )
        return carried.names

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        del seed
        return [Slot.of_parameter(model, name) for name in self.inserted(model)]

    def count(self, model: nn.Module) -> int:
        return super().count(self._tried(model))

    def check(self, model: nn.Module) -> None:
        super().check(self._tried(model))

    def maybe_get_ordinary(self, model: PreTrainedModel) -> PreTrainedModel | None:
        del model
        return None

    def _tried(self, model: nn.Module) -> nn.Module:
        """A copy of the model's tree that carries the new parameters."""
        tried = copy_tree(model)
        self.insert(tried, 0)
        return tried


def layer_count(model: nn.Module) -> int:
    """How many layers the encoder has, in all its lists of layers."""
    return 1 + max((site.layer for site in sites(model) if site.layer is not None), default=-1)
