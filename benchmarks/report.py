"""Raw measurements become medians with their spread, bars and a Markdown table; measures nothing."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from benchmarks.plan import ACCURACY, GRID, IN_BF16, SINGLE

SYSTEMS = {system.name: system for system in (*SINGLE, *GRID)}
REFERENCE = {"single": "trainer-bias", "grid": "grid-in-turn"}
MEASURES = ("tokens_per_second", "peak_mib", "first_step_seconds", "accuracy")

Raw = Mapping[str, Any]  # one worker's answer, with `shape`, `system`, `kind`, `round`; or with `failed`
Cell = dict[str, Any]


def summary(raw: Iterable[Raw], limits: Sequence[Mapping[str, float]]) -> list[Cell]:
    """A cell for each shape and system, in the order in which they were first measured."""
    found: dict[tuple[str, str], list[Raw]] = {}
    order = list(SYSTEMS)
    for one in raw:
        if "failed" not in one:
            found.setdefault((one["shape"], one["system"]), []).append(one)
    shapes = list(dict.fromkeys(shape for shape, _ in found))
    keys = sorted(found, key=lambda key: (shapes.index(key[0]), order.index(key[1])))
    limit = median(max(best["bf16"], best["fp32"]) for best in limits) if limits else None
    cells = [_cell(found[key], limit) for key in keys]
    for cell in cells:
        other = counterpart(cells, cell, REFERENCE[cell["kind"]])
        cell["times"] = other and ratio(cells, cell["shape"], "tokens_per_second", cell["system"], other)
    return cells


def counterpart(cells: Sequence[Cell], cell: Cell, other: str) -> str | None:
    """The system `other` as it was measured in the same number format as this cell; None where it was not."""
    names = (other, IN_BF16.get(other))
    same = [c["system"] for c in cells if c["shape"] == cell["shape"] and short_format(c) == short_format(cell)]
    return next((name for name in names if name in same), None)


def short_format(cell: Mapping[str, Any]) -> str:
    """bf16 or fp32, the format of the matrix products, whoever chose it and how."""
    return "bf16" if cell["format"].startswith("bfloat16") else "fp32"


def ratio(cells: Sequence[Cell], shape: str, measure: str, system: str, other: str) -> float | None:
    """One system's median over another's on a shape; None where either was not measured."""
    medians = {cell["system"]: (cell[measure] or {}).get("median") for cell in cells if cell["shape"] == shape}
    one, two = medians.get(system), medians.get(other)
    return one / two if one is not None and two else None


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Median, lowest and highest; None where nothing was measured."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": median(known), "low": min(known), "high": max(known), "values": known}


def table(cells: Sequence[Cell]) -> str:
    """What a person reads: a part for each shape."""
    parts = []
    for shape in dict.fromkeys(cell["shape"] for cell in cells):
        own = [cell for cell in cells if cell["shape"] == shape]
        reference = SYSTEMS[REFERENCE[own[0]["kind"]]].shown
        head = ("system", "format", "tokens/s", f"x {reference}, same format", "share of limit")
        lines = [_line(*head, "peak MiB", "first step s", "accuracy"), _line("---", "---", *["---:"] * 6)]
        lines += [_line(*_shown(cell)) for cell in own]
        parts.append(f"### {shape}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def accuracy_table(cells: Sequence[Cell]) -> str:
    """Mean and standard deviation over seeds, and how far apart the means are."""
    lines = [_line("shape", "system", "format", "seeds", "mean", "standard deviation")]
    lines += [_line("---", "---", "---", *["---:"] * 3)]
    ends = []
    for shape in dict.fromkeys(cell["shape"] for cell in cells):
        found = {c["system"]: c["accuracy"]["values"] for c in cells if c["shape"] == shape}
        formats = {c["system"]: short_format(c) for c in cells if c["shape"] == shape}
        for name, values in found.items():
            deviation = f"{100 * stdev(values):.2f}" if len(values) > 1 else "-"
            figures = (str(len(values)), f"{100 * mean(values):.2f}", deviation)
            lines.append(_line(shape, SYSTEMS[name].shown, formats[name], *figures))
        if set(ACCURACY) <= set(found) and len(found[ACCURACY[1]]) > 1:
            ends.append(_difference(shape, *(found[name] for name in ACCURACY)))
    return "\n".join([*lines, "", *ends])


def _difference(shape: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    apart, deviation = mean(ours) - mean(theirs), stdev(theirs)
    verdict = "reached" if apart >= -deviation else "missed"
    return (
        f"- {shape}: {verdict}: ours is {100 * apart:+.2f} points from the Trainer's mean, "
        f"whose standard deviation is {100 * deviation:.2f}"
    )


def _cell(raw: Sequence[Raw], limit: float | None) -> Cell:
    """One system on one shape, over all rounds."""
    first = raw[0]
    own = [{**one, "accuracy": mean(one["accuracies"])} for one in raw]
    cell: Cell = {name: first[name] for name in ("shape", "system", "kind", "format", "flop_per_token")}
    cell["runs_measured"] = first["runs_measured"]
    for measure in MEASURES:
        cell[measure] = spread([one[measure] for one in own])
    done = cell["flop_per_token"] * cell["tokens_per_second"]["median"]
    cell["share_of_limit"] = None if limit is None else done / (limit * 1e9)
    return cell


def _shown(cell: Cell) -> tuple[str, ...]:
    """The cells of a line of the table."""
    shown = SYSTEMS[cell["system"]].shown
    if cell["system"].startswith("grid-trainer"):
        shown += f" (from {cell['runs_measured']} of its runs)"
    elif cell["system"] == "grid-in-turn":
        shown += f" ({cell['runs_measured']} runs)"
    share, times = cell["share_of_limit"], cell["times"]
    return (
        shown,
        short_format(cell),
        _with_spread(cell["tokens_per_second"]),
        "-" if times is None else f"{times:.2f}",
        "-" if share is None else f"{100 * share:.0f} %",
        "-" if cell["peak_mib"] is None else f"{cell['peak_mib']['median']:,.0f}",
        f"{cell['first_step_seconds']['median']:.1f}",
        "-" if cell["kind"] == "grid" else f"{100 * cell['accuracy']['median']:.1f}",
    )


def _with_spread(figure: Mapping[str, Any]) -> str:
    if len(figure["values"]) == 1:
        return f"{figure['median']:,.0f}"
    return f"{figure['median']:,.0f} ({figure['low']:,.0f} - {figure['high']:,.0f})"


def _line(*parts: str) -> str:
    return "| " + " | ".join(parts) + " |"
