"""`frozen`: the head alone."""

from torch import nn

from bitfit.errors import RequestError
from bitfit.methods.family import Family
from bitfit.methods.selection import Slot


class Frozen(Family):
    """The head alone."""

    shares_a_pass = True
    head_alone = True

    def __post_init__(self) -> None:
        self.refuse_terms()
        if self.name.layers:
            raise RequestError(f"'frozen' trains no layers; found '{self.name.text}'.")

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        del model, seed
        return []
