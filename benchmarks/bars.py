"""What the engine has to reach, as a table, held against what was measured in the same number format."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import SYSTEMS, Cell, counterpart, ratio, short_format


@dataclass(frozen=True)
class Bar:
    """A ratio of two systems' medians on every shape whose name begins so; or a share of the limit.

    The other system is taken in the format of the first: the Trainer with bf16=True where this engine took bf16.
    """

    shapes: str
    system: str
    other: str  # "" for the share of the limit
    bar: float
    aim: float | None = None
    measure: str = "tokens_per_second"
    at_most: bool = False


SINGLE_SHAPES = ("imdb", "rotten-tomatoes", "rte")
BARS = (
    Bar("imdb", "engine-bitfit", "trainer-bias", 3.0, 5.0),
    Bar("rotten-tomatoes", "engine-bitfit", "trainer-bias", 2.5, 3.5),
    *(Bar(shape, "engine-bitfit", "trainer-full", 4.0) for shape in SINGLE_SHAPES),
    Bar("imdb", "engine-bitfit", "", 0.5, 0.65, "share_of_limit"),
    *(Bar(shape, "engine-full", "trainer-full", 1.8) for shape in SINGLE_SHAPES),
    Bar("grid-rte", "grid-fused", "grid-in-turn", 1.25),
    Bar("grid-rte", "grid-fused", "grid-trainer", 3.5),
    Bar("tiny", "grid-fused", "grid-in-turn", 3.0),
    *(Bar(shape, "engine-bitfit", "trainer-full", 0.5, measure="peak_mib", at_most=True) for shape in SINGLE_SHAPES),
    *(Bar(shape, "engine-bitfit", "trainer-lora", 1.0, measure="peak_mib", at_most=True) for shape in SINGLE_SHAPES),
)


def verdicts(cells: Sequence[Cell]) -> list[dict[str, object]]:
    """Each bar on each shape that was measured."""
    found: list[dict[str, object]] = []
    for bar in BARS:
        for shape in dict.fromkeys(c["shape"] for c in cells if c["shape"].startswith(bar.shapes)):
            cell = next((c for c in cells if (c["shape"], c["system"]) == (shape, bar.system)), None)
            if cell and (verdict := _verdict(cells, cell, bar)):
                found.append(verdict)
    return found


def bars_table(found: Sequence[dict[str, object]]) -> str:
    """The verdicts as lines."""
    lines = ["| bar | shape | wanted | came | |", "|---|---|---:|---:|---|"]
    lines += [
        f"| {one['what']} | {one['shape']} | {one['bar']} | {one['came']:.2f} | "
        f"{'reached' if one['reached'] else 'missed'} |"
        for one in found
    ]
    return "\n".join(lines)


def _verdict(cells: Sequence[Cell], cell: Cell, bar: Bar) -> dict[str, object] | None:
    """One bar on one shape; None where the other system was not measured in the same format."""
    other = counterpart(cells, cell, bar.other) if bar.other else None
    came = ratio(cells, cell["shape"], bar.measure, bar.system, other) if other else None
    if not bar.other:
        came = cell[bar.measure]
    if came is None:
        return None
    reached = came <= bar.bar if bar.at_most else came >= bar.bar
    what = f"{_what(bar, other)}, {short_format(cell)}"
    return {"shape": cell["shape"], "what": what, "bar": bar.bar, "came": came, "reached": reached}


def _what(bar: Bar, other: str | None) -> str:
    name = SYSTEMS[bar.system].shown
    if other is None:
        return f"{name}, share of the limit" + _aim(bar)
    kind = {"tokens_per_second": "speed", "peak_mib": "peak memory"}[bar.measure]
    sign = "at most" if bar.at_most else "at least"
    return f"{kind}: {name} against {SYSTEMS[other].shown}, {sign}" + _aim(bar)


def _aim(bar: Bar) -> str:
    return f" (aim {bar.aim})" if bar.aim else ""
