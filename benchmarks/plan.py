"""What is measured on what: shapes, systems and the requests made of them; imports nothing heavy."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

from bitfit.errors import RequestError, nearest

Kind = Literal["single", "grid"]


@dataclass(frozen=True)
class Shape:
    """One workload. Its systems train on the same `steps * batch` examples."""

    name: str
    task: str
    batch: int
    steps: int  # of one run
    kind: Kind = "single"
    tiny: bool = False  # on BERT-tiny's shape instead of the embedded model
    validation: int = 1000  # examples scored at the end, at most

    @property
    def needs_data(self) -> bool:
        """Whether the task is read from --data-dir; the others are embedded."""
        return self.task not in ("imdb", "rotten-tomatoes")


@dataclass(frozen=True)
class System:
    """One way to train, run in a process of its own."""

    name: str
    shown: str  # in the table
    loop: Literal["engine", "trainer", "limit"]
    method: Literal["bitfit", "full", "frozen", "lora"] = "bitfit"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # the Trainer: fp32, or bf16=True
    together: bool = False  # grid: all runs in one pass
    runs: int | None = None  # grid: how many of its runs are measured; None: all

    @property
    def learning_rate(self) -> float:
        """What suits the method, the same in every loop."""
        return {"full": 5e-5, "lora": 5e-4}.get(self.method, 1e-3)


SHAPES = (
    Shape("imdb-b32", "imdb", 32, 16, validation=256),
    Shape("rotten-tomatoes-b16", "rotten-tomatoes", 16, 120),
    Shape("rotten-tomatoes-b32", "rotten-tomatoes", 32, 60),
    Shape("rte-b16", "rte", 16, 60),
    Shape("grid-rte-b16", "rte", 16, 12, "grid"),
    Shape("grid-rotten-tomatoes-b16", "rotten-tomatoes", 16, 12, "grid"),
    *(
        Shape(f"tiny-{task}-b{batch}", task, batch, 40, "grid", tiny=True)
        for task in ("rotten-tomatoes", "rte")
        for batch in (8, 16)
    ),
)
SINGLE = (
    System("engine-bitfit", "bitfit: bitfit", "engine"),
    System("engine-bitfit-fp32", "bitfit: bitfit, fp32", "engine", precision="fp32"),
    System("engine-frozen", "bitfit: frozen", "engine", "frozen"),
    System("engine-full", "bitfit: full", "engine", "full"),
    System("trainer-bias", "Trainer: biases and head", "trainer", precision="fp32"),
    System("trainer-bias-bf16", "Trainer: biases and head, bf16=True", "trainer", precision="bf16"),
    System("trainer-lora", "Trainer: PEFT LoRA r=8", "trainer", "lora", "fp32"),
    System("trainer-lora-bf16", "Trainer: PEFT LoRA r=8, bf16=True", "trainer", "lora", "bf16"),
    System("trainer-full", "Trainer: full", "trainer", "full", "fp32"),
    System("trainer-full-bf16", "Trainer: full, bf16=True", "trainer", "full", "bf16"),
)
GRID = (
    System("grid-fused", "bitfit: 20 rows fused", "engine", together=True),
    System("grid-in-turn", "bitfit: one after another", "engine"),
    System("grid-trainer", "Trainer: biases and head, one after another", "trainer", precision="fp32", runs=2),
    System(
        "grid-trainer-bf16",
        "Trainer: biases and head, bf16=True, one after another",
        "trainer",
        precision="bf16",
        runs=2,
    ),
)
# The same system of the Trainer in the other format: speeds and memory are compared within one format only.
IN_BF16 = {name: f"{name}-bf16" for name in ("trainer-bias", "trainer-lora", "trainer-full", "grid-trainer")}
LIMIT = System("limit", "matrix products alone", "limit")
ACCURACY = ("engine-bitfit", "trainer-bias")
ACCURACY_EPOCHS = {"rotten-tomatoes-b16": 3, "rte-b16": 6}
GRID_RATES, GRID_SEEDS = (1e-4, 4e-4, 7e-4, 1e-3), (0, 1, 2, 3, 4)
QUICK_STEPS, QUICK_VALIDATION, QUICK_RUNS = 5, 64, 3  # runs: of a grid that goes one after another


@dataclass(frozen=True)
class Request:
    """One measurement, as it is handed to a process."""

    shape: Shape
    system: System
    round: int = 0  # also the seed: of the head, the order and the dropout
    epochs: int | None = None  # whole ones over all examples, for accuracy; None: one over `steps` batches
    left_out: int = 3  # first steps, while caches fill
    data_dir: str | None = None
    tiny: str | None = None  # folder of the tiny model
    started: float = 0.0  # time.monotonic() when the process was asked for

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """What `to_json` wrote."""
        values = json.loads(line)
        return cls(**{**values, "shape": Shape(**values["shape"]), "system": System(**values["system"])})


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    rounds: int = 3
    steps: int | None = None
    only: tuple[str, ...] = ()
    quick: bool = False
    accuracy: bool = False
    epochs: int | None = None  # for accuracy; None: ACCURACY_EPOCHS
    data_dir: Path | None = None
    tiny: Path | None = None
    threads: int = 1


def systems_of(shape: Shape) -> tuple[System, ...]:
    """Who is measured on a shape; the Trainer's grid is measured on the embedded model's size only."""
    if shape.kind == "single":
        return SINGLE
    return GRID[:2] if shape.tiny else GRID


def chosen(options: Options) -> list[tuple[Shape, tuple[System, ...]]]:
    """The shapes and systems that --only leaves. A word chooses the one of that name, else all that have it in it."""
    shapes = [shape for shape in SHAPES if not options.accuracy or shape.name in ACCURACY_EPOCHS]
    systems = [s for s in (*SINGLE, *GRID) if not options.accuracy or s.name in ACCURACY]
    some_shapes, some_systems = set[str](), set[str]()
    for word in options.only:
        in_shapes, in_systems = (_named(word, [item.name for item in items]) for items in (shapes, systems))
        if not (in_shapes or in_systems):
            names = [item.name for item in (*shapes, *systems)]
            raise RequestError(f"--only '{word}' is in no shape's and no system's name. {nearest(word, names)}")
        some_shapes |= in_shapes
        some_systems |= in_systems if not in_shapes else set()
    picked = [
        (shape, tuple(s for s in systems_of(shape) if s in systems and s.name in (some_systems or {s.name})))
        for shape in shapes
        if shape.name in (some_shapes or {shape.name})
    ]
    return [(shape, own) for shape, own in picked if own]


def requests(options: Options, shape: Shape, systems: Sequence[System], turn: int) -> Iterator[Request]:
    """The measurements of one round on one shape; every other round goes the other way round."""
    shape, left_out = _sized(shape, options)
    for system in systems if turn % 2 == 0 else reversed(systems):
        if options.quick and system in GRID and not system.together:
            system = replace(system, runs=min(system.runs or QUICK_RUNS, QUICK_RUNS))
        yield Request(
            shape,
            system,
            round=turn,
            epochs=options.epochs or ACCURACY_EPOCHS[shape.name] if options.accuracy and not options.quick else None,
            left_out=left_out,
            data_dir=None if options.data_dir is None else str(options.data_dir),
            tiny=None if options.tiny is None else str(options.tiny),
        )


def _sized(shape: Shape, options: Options) -> tuple[Shape, int]:
    """The shape at its size of this time, and how many steps are left out."""
    steps = options.steps or (QUICK_STEPS if options.quick else shape.steps)
    validation = QUICK_VALIDATION if options.quick else shape.validation
    return replace(shape, steps=steps, validation=validation), min(3, max(1, steps // 4))


def _named(word: str, names: Sequence[str]) -> set[str]:
    """The one of that name, else all that have the word in theirs."""
    return {word} if word in names else {name for name in names if word in name}
