"""The settings of a run, checked, and how its learning rate moves."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from bitfit.errors import RequestError, nearest

if TYPE_CHECKING:  # the command line reads the defaults here, and its help must not wait for torch
    from bitfit.backbone.device import Device
    from bitfit.methods.method import Method
    from bitfit.runtime.precision import Precision


# How long a row trains where nobody says: as many epochs as make these steps, but not fewer and not more than so many.
# A few hundred examples need more rounds than 50,000 do, and many classes more than two (experiments/defaults).
USUAL_STEPS, STEPS_A_CLASS = 600, 25
FEWEST_EPOCHS, MOST_EPOCHS = 3, 20
LONG, PATIENCE = 10, 5  # such a run of so many epochs ends after so many without a better score

HEAD_STARTS = ("auto", "probe", "frequencies", "random")
FLOATS = ("learning_rate", "warmup", "clip", "weight_decay")
# Settings that files of earlier versions do not have -> what they mean by it.
UNSAID = {"prefix_cache": None, "head_start": "random", "balance": "none", "few_shot": "off"}
# What other tools call a setting, where the letters do not lead to its name here.
OTHER_WORDS = {
    "lr": "learning_rate",
    "bs": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "wd": "weight_decay",
    "max_grad_norm": "clip",
    "lr_scheduler_type": "schedule",
    "warmup_ratio": "warmup",
    "dtype": "precision",
}


class TrainSettings(TypedDict, total=False):
    """The fields of a TrainConfig as keywords: train(backbone, task, epochs=1)."""

    learning_rate: float | Literal["auto"] | None
    batch_size: int
    epochs: int | None
    seed: int
    schedule: Literal["linear", "constant"]
    warmup: float
    clip: float
    weight_decay: float
    patience: int | None
    precision: "Precision"
    device: "Device"
    prefix_cache: bool | None
    head_start: Literal["auto", "probe", "frequencies", "random"]
    balance: Literal["auto", "none", "weights"]
    few_shot: Literal["auto", "on", "off"]


@dataclass(frozen=True)
class TrainConfig:
    """How one row is trained."""

    learning_rate: float | None = None  # None or "auto": raced for (race.py), or what suits the method
    batch_size: int = 16
    epochs: int | None = None  # None: what suits the number of examples
    seed: int = 0  # decides the head's start, the order of the data and the dropout draws
    schedule: Literal["linear", "constant"] = "linear"  # after warm-up: down to zero, or level
    warmup: float = 0.1  # share of all steps
    clip: float = 1.0  # largest gradient norm; 0: no clipping
    weight_decay: float = 0.01  # never on biases and norms
    patience: int | None = None  # stop after so many epochs without a better score; None: never, where epochs are given
    precision: "Precision" = "auto"
    device: "Device" = "auto"  # the machine's business: no part of what tells one run from another
    # The layers below all that trains answer once for each example, without dropout. None: where the head alone trains.
    # With terms of upper layers it must be asked for: the paper's runs had dropout in every layer.
    prefix_cache: bool | None = None
    # At random; the same with biases for the frequencies of the classes; or where a linear model on the frozen features
    # has it. Auto: the frequencies, of classes and labels.
    head_start: Literal["auto", "probe", "frequencies", "random"] = "auto"
    balance: Literal["auto", "none", "weights"] = "auto"  # weights of classes in the loss; auto: where they help
    few_shot: Literal["auto", "on", "off"] = "auto"  # two stages for few examples of a class; auto: where they help

    def changed(self, settings: Mapping[str, Any], others: Iterable[str] = ()) -> "TrainConfig":
        """The same with these settings. A misspelt one is refused; `others` are names that could have been meant."""
        known = [*(field.name for field in fields(self)), *others]
        for name in settings:
            if name in OTHER_WORDS:
                raise RequestError(f"There is no setting '{name}'. Did you mean '{OTHER_WORDS[name]}'?")
            if name not in known:
                raise RequestError(f"There is no setting '{name}'. {nearest(str(name), known)}")
        return replace(self, **settings)

    @classmethod
    def of(cls, given: "TrainConfig | Mapping[str, Any] | None") -> "TrainConfig":
        """Settings as they are, or those of a dict; the usual ones where there are none."""
        if isinstance(given, TrainConfig):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise RequestError(f"Expected a TrainConfig or a dict of its settings; found {given!r:.80}.")
        return cls().changed(given or {})

    def __post_init__(self) -> None:
        """Keep Python's own numbers, and refuse what cannot be, all of it at once."""
        for name in (field.name for field in fields(self)):
            value = _plain(getattr(self, name), as_float=name in FLOATS)
            object.__setattr__(self, name, None if (name, value) == ("learning_rate", "auto") else value)
        rate, whole, free = self.learning_rate, "a whole number from 1 on", "0 or more, and finite"
        wrong = [
            f"{name} must be {rule}, found {getattr(self, name)!r}"
            for name, rule, right in (
                ("learning_rate", "above 0 and below 10", rate is None or _above_0(rate, 10)),
                ("batch_size", whole, _whole(self.batch_size, 1)),
                ("epochs", whole, self.epochs is None or _whole(self.epochs, 1)),
                ("seed", "a whole number from 0 up to 2^63 - 1", _whole(self.seed, 0)),
                ("schedule", "'linear' or 'constant'", self.schedule in ("linear", "constant")),
                ("warmup", "from 0 up to, not including, 1", self.warmup == 0.0 or _above_0(self.warmup, 1)),
                ("clip", free, self.clip == 0 or _above_0(self.clip)),
                ("weight_decay", free, self.weight_decay == 0 or _above_0(self.weight_decay)),
                ("patience", whole, self.patience is None or _whole(self.patience, 1)),
                ("prefix_cache", "true, false or nothing", self.prefix_cache in (None, True, False)),
                ("head_start", f"one of {', '.join(HEAD_STARTS)}", self.head_start in HEAD_STARTS),
                ("few_shot", "'auto', 'on' or 'off'", self.few_shot in ("auto", "on", "off")),
                ("balance", "'auto', 'none' or 'weights'", self.balance in ("auto", "none", "weights")),
            )
            if not right
        ]
        if wrong:
            raise RequestError("; ".join(wrong) + ".")

    @classmethod
    def paper(cls, learning_rate: float | None = None, seed: int = 0) -> "TrainConfig":
        """How the paper trained, for one of the rates and seeds that it tried: a constant rate, no decay, its batch
        size, and the epochs of most of its tasks."""
        return cls(
            learning_rate,
            batch_size=16,
            epochs=8,
            seed=seed,
            schedule="constant",
            warmup=0.0,
            clip=1.0,
            weight_decay=0.0,
            head_start="random",
            balance="none",
            few_shot="off",
        )

    def settled(self, method: "Method", examples: int, classes: int = 0) -> "TrainConfig":
        """The same with a learning rate and epochs: those given, or what suits the method, the number of examples to
        train on and of their classes, 0 where the answers are no classes."""
        few = self.few_shot == "on"  # most is learnt before: what follows only settles it
        suits = method.learning_rate if self.schedule == "linear" and not few else method.level_learning_rate
        rate = suits if self.learning_rate is None else self.learning_rate
        if self.epochs is not None:
            return replace(self, learning_rate=rate)
        epochs = FEWEST_EPOCHS if few else usual_epochs(examples, classes, self.batch_size)
        patience = PATIENCE if self.patience is None and epochs >= LONG else self.patience
        return replace(self, learning_rate=rate, epochs=epochs, patience=patience)

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as plain values. A newer one that changes nothing is left out, as in
        older files."""
        left_out = {"device", *(name for name, usual in UNSAID.items() if getattr(self, name) == usual)}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "TrainConfig":
        """The settings among what a file says, which may be of an earlier version."""
        said = {**UNSAID, **document}
        return cls(**{field.name: said[field.name] for field in fields(cls) if field.name in said})


def usual_epochs(examples: int, classes: int, batch_size: int) -> int:
    """How many times each example is seen where nobody says."""
    steps_an_epoch = math.ceil(max(examples, 1) / batch_size)
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil((USUAL_STEPS + STEPS_A_CLASS * classes) / steps_an_epoch)))


def factor(config: TrainConfig, step: int, steps: int) -> float:
    """The share of the learning rate at a step, counted from 0, of `steps` in all."""
    warm = int(config.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    return (steps - step) / max(1, steps - warm)


def _plain(value: Any, as_float: bool) -> Any:
    """A number of numpy's or torch's as Python's own; anything else as it is."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    return float(value) if as_float and type(value) is int else value


def _above_0(value: Any, below: float = math.inf) -> bool:
    return isinstance(value, float) and 0 < value < below


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**63
