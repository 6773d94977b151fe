"""Every method by its name, as one table; knows nothing of what a Selection does with the answer.

A family gets the task model, the name taken apart and a seed, and gives the encoder's slots. A family that
grafts new parameters changes the model's tree first and then gives slots over what it put there. The head's
slots are added by `select`, for all families alike.
"""

from collections.abc import Callable

from torch import nn

from bitfit.errors import RequestError, nearest
from bitfit.methods import biases, random_masks
from bitfit.methods.added_bias import ADDED_BIAS
from bitfit.methods.houlsby import HOULSBY
from bitfit.methods.lora import LORA
from bitfit.methods.name import MethodName
from bitfit.methods.slot import Slot

Family = Callable[[nn.Module, MethodName, int], list[Slot]]


def _chosen_in_training(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    raise RequestError(
        f"'{name.text}' chooses what changes while it trains on a task's data, so it cannot be resolved on a model "
        "alone. bitfit.train(backbone, task, method) does both."
    )


FAMILIES: dict[str, Family] = {
    "bitfit": biases.bitfit,
    "full": biases.full,
    "frozen": biases.frozen,
    "layernorm": biases.layernorm,
    "random-uniform": random_masks.random_uniform,
    "random-rows-columns": random_masks.random_rows_columns,
    "added-bias": ADDED_BIAS,
    "lora": LORA,
    "houlsby": HOULSBY,
    "diff-pruning": _chosen_in_training,
}


def family(name: MethodName) -> Family:
    """The family of a method's name; a name that nobody knows is refused with the nearest."""
    if name.budget is not None:
        return _chosen_in_training
    if name.family not in FAMILIES:
        raise RequestError(f"There is no method '{name.family}'. {nearest(name.family, FAMILIES)}")
    return FAMILIES[name.family]
