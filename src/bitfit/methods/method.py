"""A method as a value: what trains, and how much of the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.anatomy import check_model
from bitfit.errors import RequestError
from bitfit.methods.budget import Scored
from bitfit.methods.family import Family
from bitfit.methods.insertion import Insertion, check_untouched
from bitfit.methods.name import MethodName
from bitfit.methods.registry import get_family
from bitfit.methods.selection import HeadMode, Selection, Slot, assemble, check_head_mode, head_slots
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.row_model import RowModel

F = TypeVar("F", bound=Family)


@dataclass(frozen=True)
class Phase:
    """One of the phases of a training: what trains in it, and how its values are laid out."""

    selection: Selection
    theta: ThetaMap


@dataclass(frozen=True, repr=False)
class Method:
    """What trains, and how much of the head. Equal where both are."""

    family: Family  # as one name asks for it
    head: HeadMode = "full"

    def __post_init__(self) -> None:
        check_head_mode(self.head)

    @classmethod
    def parse(cls, text: str, head: HeadMode = "full") -> "Method":
        """The method of a name such as 'bitfit[b_m2,b_q]'; blanks in it change nothing."""
        return cls(get_family(MethodName.parse(text)), head)

    @classmethod
    def of(cls, method: "str | Method") -> "Method":
        """The method itself, or that of a name, with the whole head."""
        if isinstance(method, str):
            return cls.parse(method)
        if not isinstance(method, Method):
            raise RequestError(f"Expected a method or the name of one, such as 'bitfit'; found {method!r:.80}.")
        return method

    @classmethod
    def maybe_of(cls, text: str) -> "Method | None":
        """The method of a name that a file gives; None where nobody here knows it."""
        try:
            return cls.parse(text)
        except RequestError:
            return None

    def __repr__(self) -> str:
        return f"Method({self.name!r}, head={self.head!r})"

    # ------------------------------------------------------------------ what it is

    @property
    def name(self) -> str:
        """Its name in one spelling."""
        return self.family.name.text

    @property
    def learning_rate(self) -> float:
        """The one to take where none is given, and it falls to zero."""
        return self.family.learning_rate

    @property
    def level_learning_rate(self) -> float:
        """The one to take where none is given, and it stays as it is."""
        return self.family.level_learning_rate

    @property
    def phases(self) -> tuple[str, ...]:
        """The names of its phases of training; one without a name where there is only one."""
        return self.family.phases

    @property
    def inserts(self) -> bool:
        """Does it put new parameters into a model?"""
        return self.family.inserts

    @property
    def reads_data(self) -> bool:
        """Is what changes chosen on a task's data, before training?"""
        return self.family.reads_data

    @property
    def shares_a_pass(self) -> bool:
        """Can several runs of it share each pass, where the model can run so?"""
        return self.family.shares_a_pass

    @property
    def averages(self) -> bool:
        """Can several deltas of it be averaged and added element by element?"""
        return self.family.averages

    @property
    def head_alone(self) -> bool:
        """Does nothing of the encoder change?"""
        return self.family.head_alone

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms that its name asks for; none where it asks for all there are."""
        return self.family.name.terms

    @property
    def is_bias_method(self) -> bool:
        """Is what changes the model's own biases, by name?"""
        return self.family.is_bias_method

    def maybe_as(self, kind: type[F]) -> F | None:
        """Its family, if it is of this kind."""
        return self.family if isinstance(self.family, kind) else None

    # ------------------------------------------------------------------ on a model

    def check(self, model: nn.Module) -> None:
        """Refuse a model that the method does not fit; leaves the model as it is."""
        self._check_model(model)
        self.family.check(model)

    def count(self, model: nn.Module) -> int:
        """How many elements it trains of a model, the head's among them; leaves the model as it is."""
        self._check_model(model)
        return self.family.count(model) + sum(slot.size for slot in head_slots(model, self.head))

    def insert(self, model: nn.Module, seed: int = 0) -> Insertion:
        """Put its new parameters into a model, drawn from the seed; `undo` of the answer takes them out again.

        Nothing happens for a method that has none, and where the model carries them already.
        """
        self._check_model(model)
        return self.family.insert(model, seed)

    def start(self, model: nn.Module, seed: int) -> dict[str, Tensor]:
        """What the new parameters that a model carries hold at the start, by name, for any seed."""
        return self.family.starts(model, seed)

    def select(self, model: nn.Module, seed: int = 0) -> Selection:
        """What changes in a task model, or in a base model, which has no head; the seed matters to methods that draw.

        The model stays as it is. It carries the new parameters already, where the method has some.
        """
        self._check_model(model)
        if self.reads_data or len(self.phases) > 1:
            raise RequestError(
                f"'{self.name}' chooses what changes while it trains on a task's data, so it cannot be resolved on a "
                "model alone. bitfit.train(backbone, task, method) does both."
            )
        return self._selection(model, self.family.slots(model, seed))

    def maybe_get_ordinary(self, model: PreTrainedModel) -> PreTrainedModel | None:
        """A trained model as transformers knows its architecture; `model` may become it. None if it cannot be."""
        return self.family.maybe_get_ordinary(model)

    # ------------------------------------------------------------------ in training

    def first_phase(
        self, model: PreTrainedModel, fast: RowModel, seed: int, rate: float, scores: Sequence[Scored] = ()
    ) -> Phase:
        """What trains first: `model` is the plain task model, `fast` the one that runs. `scores` are of all biases on
        the task's data, where the method reads them."""
        slots = self.family.choose(model, scores) if self.reads_data else self.family.slots(model, seed)
        selection = self._selection(model, slots)
        return Phase(selection, self.family.theta(with_whole_head(selection, model), model, fast, rate))

    def next_phase(
        self, model: PreTrainedModel, fast: RowModel, theta: ThetaMap, values: Tensor
    ) -> tuple[Phase, Tensor]:
        """What trains after a phase that ended with these values, (1, P), and from where it goes on, (1, P)."""
        slots, start = self.family.next_phase(model, theta, values)
        selection = self._selection(model, slots)
        following = ThetaMap(with_whole_head(selection, model), model, fast)
        return Phase(selection, following), following.starting_row(start)[None]

    def _check_model(self, model: nn.Module) -> None:
        check_model(model)
        check_untouched(model, self.name)

    def _selection(self, model: nn.Module, slots: Sequence[Slot]) -> Selection:
        return assemble(model, self.name, self.head, slots)


def select(model: nn.Module, method: str | Method = "bitfit", head: HeadMode | None = None, seed: int = 0) -> Selection:
    """What a method lets change in a task model, or in a base model, which has no head; the model stays as it is.

    `head` says how much of the task head changes: all of it (the default), its biases, or nothing.
    """
    chosen = Method.of(method)
    return Method(chosen.family, chosen.head if head is None else head).select(model, seed)
