"""`bitfit delta`: look into delta files, compare, combine and merge them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.options import backbone_of, overwrite_option
from bitfit.cli.output import in_order, json_option, log, plain, result, table
from bitfit.cli.output_file import check_new, check_new_folder

if TYPE_CHECKING:
    from rich.console import Console

    from bitfit.delta.changes import Change
    from bitfit.delta.combine import Comparison
    from bitfit.delta.delta import Delta

MOST_SHOWN = 20  # lines of a list on a terminal; --json has them all
LEFT_OUT = (
    "measured_on",
    "findings",
    "history",
    "facts",
    "validation",
)  # of the settings: shown elsewhere, or by `bitfit report`
MOST_NAMED = 3  # names at the end of a line

model_option = click.option(
    "--model", "model_name", metavar="MODEL", help="The backbone: a name or a folder. Default: the file's."
)
out_option = click.option("--out", required=True, type=click.Path(path_type=Path), help="Where to write.")
file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def command() -> None:
    """Look into delta files, compare, combine and merge them."""


@command.command()
@file_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """What a file says of itself: backbone, method, task, scores, settings."""
    delta = _load(file)
    result(as_json, describe(file, delta), lambda console: _draw_delta(console, file, delta))


@command.command()
@file_argument
@click.option("--model", "model_name", required=True, metavar="MODEL", help="The backbone: a name or a folder.")
@json_option
def verify(file: Path, model_name: str, as_json: bool) -> None:
    """Whether a file fits a model: applied and reverted once, and compared to the bit."""
    delta = _load(file)
    delta.verify(backbone_of(delta, model_name))
    document = {"file": str(file), "model": model_name, "fingerprint": delta.fingerprint, "fits": True}
    result(
        as_json,
        document,
        lambda console: console.print(
            f"{file} fits {model_name}: {delta.size:,} values applied and reverted, to the bit."
        ),
    )


@command.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@json_option
def diff(first: Path, second: Path, as_json: bool) -> None:
    """What differs between two files, and how far their values are apart."""
    from bitfit.delta.combine import compare

    comparison = compare(_load(first), _load(second))
    result(as_json, comparison.to_json(), lambda console: _draw_comparison(console, comparison))


@command.command()
@file_argument
@model_option
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the heat map to this file too (.png, .svg).")
@overwrite_option
@json_option
def changes(file: Path, model_name: str | None, plot: Path | None, overwrite: bool, as_json: bool) -> None:
    """How far each term moved in each layer: the mean absolute change, as a heat map."""
    if plot is not None:
        check_new(plot, overwrite, "--plot")
    from bitfit.delta.changes import changes as changes_of
    from bitfit.delta.changes import draw_changes

    delta = _load(file)
    moved = changes_of(delta, backbone_of(delta, model_name))
    if plot is not None:
        draw_changes(moved, plot, f"{delta.task.name}, {delta.method}: mean absolute change")
    document = {
        "delta": str(file),
        "model": model_name or delta.backbone,
        "changes": [change.to_json() for change in moved],
    }
    result(as_json, document, lambda console: _draw_changes(console, moved))


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option
@overwrite_option
@json_option
def average(files: tuple[Path, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """The mean of several deltas of one kind of task, as a new file."""
    check_new(out, overwrite)
    from bitfit.delta.combine import average as average_of

    _save(average_of([_load(file) for file in files]), out, as_json)


@command.command("sum")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@out_option
@overwrite_option
@json_option
def add(files: tuple[Path, ...], model_name: str | None, out: Path, overwrite: bool, as_json: bool) -> None:
    """The backbone plus every delta's change of it, as a new file; heads are averaged."""
    check_new(out, overwrite)
    from bitfit.delta.combine import add as add_up

    deltas = [_load(file) for file in files]
    _save(add_up(deltas, backbone_of(deltas[0], model_name)), out, as_json)


@command.command()
@file_argument
@model_option
@out_option
@json_option
def merge(file: Path, model_name: str | None, out: Path, as_json: bool) -> None:
    """An ordinary transformers checkpoint that loads without bitfit and predicts the same.

    Texts are to be cut as the task cuts them: pipeline("text-classification", OUT)(texts, truncation=True).

    A head on the mean of the tokens (--pool mean) is no class of transformers, so its folder brings one along in a
    small file, modeling_mean.py. Transformers runs it once you allow it, and refuses the folder otherwise;
    sentence-transformers reads the same folder and runs none of its code.

    \b
    A folder with a head on the mean loads as:
      pipeline("text-classification", OUT, trust_remote_code=True)
      AutoModelForSequenceClassification.from_pretrained(OUT, trust_remote_code=True)
      SentenceTransformer(OUT).encode(texts)    # the logits
    """
    check_new_folder(out)
    from bitfit.integrations.checkpoint import MODELING
    from bitfit.integrations.checkpoint import merge as merge_into

    delta = _load(file)
    folder = merge_into(delta, backbone_of(delta, model_name), out)
    code = MODELING if (folder / MODELING).exists() else None
    document = {
        "delta": str(file),
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "trust_remote_code": code is not None,
    }
    result(as_json, document, lambda console: _draw_merged(console, folder, code))


@command.command("to-adapter")
@file_argument
@model_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder.")
@json_option
def to_adapter(file: Path, model_name: str | None, out: Path, as_json: bool) -> None:
    """A delta of the method lora as a folder that PEFT reads."""
    check_new_folder(out)
    from bitfit.integrations.peft import write_adapter

    delta = _load(file)
    folder = write_adapter(delta, backbone_of(delta, model_name), out)
    document = {"delta": str(file), "folder": str(folder)}
    result(as_json, document, lambda console: console.print(f"{folder}: an adapter for PeftModel.from_pretrained."))


@command.command("from-adapter")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--like", required=True, type=click.Path(path_type=Path), help="A delta file of the same task.")
@model_option
@out_option
@overwrite_option
@json_option
def from_adapter(folder: Path, like: Path, model_name: str | None, out: Path, overwrite: bool, as_json: bool) -> None:
    """A PEFT LoRA adapter as a delta file; what its task is, another delta says."""
    check_new(out, overwrite)
    from bitfit.integrations.peft import read_adapter

    known = _load(like)
    _save(read_adapter(folder, backbone_of(known, model_name), known.task), out, as_json)


def describe(file: Path, delta: "Delta") -> dict[str, Any]:
    """A delta file as JSON values: all but the arrays."""
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "backbone": {"name": delta.backbone, "fingerprint": delta.fingerprint},
        "method": delta.method,
        "head": delta.head_mode,
        "values": delta.size,
        "slots": [
            {
                "name": slot.name,
                "key": slot.key,
                "shape": list(slot.shape),
                "size": slot.size,
                "inert": slot.inert,
                "in_head": slot.in_head,
            }
            for slot in delta.slots
        ],
        "task": delta.task.to_json(),
        "scores": delta.scores,
        "settings": delta.settings,
        "versions": delta.versions,
    }


def _load(file: Path) -> "Delta":
    from bitfit.delta.delta import Delta

    return Delta.load(file)


def _save(delta: "Delta", out: Path, as_json: bool) -> None:
    delta.save(out)
    result(as_json, describe(out, delta), lambda console: console.print(plain(_written(out, delta))))


# ---------------------------------------------------------------------- for a person


def _written(out: Path, delta: "Delta") -> str:
    values = f"{delta.size:,} values in {len(delta.slots)} slots"
    return f"{out}: {delta.method} on {delta.backbone} for {delta.task.name}, {values}."


def _draw_delta(console: "Console", file: Path, delta: "Delta") -> None:
    from bitfit.training.findings import Finding

    task = delta.task
    labels = f", labels {', '.join(task.labels[:MOST_SHOWN])}" if task.labels else ""
    lines = {
        "file": f"{file}, {file.stat().st_size:,} bytes",
        "backbone": delta.backbone,
        "fingerprint": delta.fingerprint,
        "method": f"{delta.method}, head {delta.head_mode}",
        "values": f"{delta.size:,} in {len(delta.slots)} slots",
        "task": f"{task.name}: {', '.join(task.texts)} -> {task.label} ({task.kind}{labels})",
        "longest text": f"{task.max_length} pieces",
        **{
            f"score on {split}": _scores(scores) + _rows(delta, split)
            for split, scores in in_order(task, delta.scores).items()
        },
        **{name: _setting(value) for name, value in _settings(delta).items()},
        **{one.code: f"{one.severity}: {one.text}" for one in Finding.all_of(delta.settings)},
        **{f"{package} version": version for package, version in delta.versions.items()},
    }
    for name, value in lines.items():
        console.print(f"{plain(name):<20} {plain(value)}")


def _settings(delta: "Delta") -> dict[str, Any]:
    """Those that no other line shows; thresholds by their labels."""
    settings = {name: value for name, value in delta.settings.items() if name not in LEFT_OUT}
    if delta.thresholds is not None:
        least = dict(list(zip(delta.task.labels, delta.thresholds, strict=True))[:MOST_SHOWN])
        settings["calibration"] = {**settings["calibration"], "thresholds": least}
    return settings


def _draw_merged(console: "Console", folder: Path, code: str | None) -> None:
    console.print(f"{plain(folder)}: an ordinary transformers checkpoint.")
    if code is not None:
        name = plain(folder.as_posix())
        console.print(f"Its head reads the mean of the tokens, which no class of transformers does: allow its {code}.")
        console.print(f'  pipeline("text-classification", "{name}", trust_remote_code=True)')
        console.print(f'  SentenceTransformer("{name}").encode(texts)    # the logits; runs no code of the folder')


def _scores(scores: Any) -> str:
    return ", ".join(f"{metric} {100 * value:.2f} %" for metric, value in scores.items())


def _setting(value: Any) -> str:
    """A setting in words: no brackets, and a dash for what was not set."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_setting(part)}" for name, part in value.items())
    return "-" if value is None else str(value)


def _rows(delta: "Delta", split: str) -> str:
    """How many rows a score is of, where the file says so."""
    from bitfit.data.examples import measured_text

    measured = delta.settings.get("measured_on")
    return f" (of {measured_text(measured[split])} rows)" if isinstance(measured, dict) and split in measured else ""


def _draw_comparison(console: "Console", comparison: "Comparison") -> None:
    if comparison.identical:
        console.print("The two hold the same task and the same values.")
        return
    fields = [[plain(name), *(plain(_setting(value)) for value in pair)] for name, pair in comparison.fields.items()]
    if fields:
        console.print(table("What they say", ["field", "first", "second"], fields))
    ordered = sorted(comparison.slots, key=lambda slot: -slot.mean)
    rows = [[slot.key, f"{slot.size:,}", f"{slot.mean:.3g}", f"{slot.largest:.3g}"] for slot in ordered]
    title = "Mean absolute difference of the values, largest first"
    console.print(table(title, ["slot", "size", "mean", "largest"], rows[:MOST_SHOWN]))
    if len(rows) > MOST_SHOWN:
        log().print(f"{len(rows) - MOST_SHOWN} more slots: --json lists them all.")
    for which, keys in (("first", comparison.only_first), ("second", comparison.only_second)):
        if keys:
            more = ", ..." if len(keys) > MOST_NAMED else ""
            console.print(f"Only in the {which} are {len(keys)} slots: {', '.join(keys[:MOST_NAMED])}{more}")


def _draw_changes(console: "Console", moved: tuple["Change", ...]) -> None:
    """Terms down, layers across; the darker the cell, the further the term moved."""
    from bitfit.delta.changes import by_layer

    cells = by_layer(moved)
    layers = sorted({layer for _, layer in cells})
    most = max(cells.values(), default=0.0) or 1.0
    names = list(dict.fromkeys(name for name, _ in cells))
    rows = [[name, *(_heat(cells.get((name, layer)), most) for layer in layers)] for name in names]
    if rows:
        console.print(table("Mean absolute change", ["term", *map(str, layers)], rows))
    outside = [change for change in moved if change.layer is None]
    for change in outside[:MOST_SHOWN]:
        console.print(f"{change.name}: {change.change:.3g}")
    if len(outside) > MOST_SHOWN:
        log().print(f"{len(outside) - MOST_SHOWN} more parameters: --json lists them all.")


def _heat(value: float | None, most: float) -> Any:
    from rich.text import Text

    if value is None:
        return Text("")
    shade = 255 - round(23 * value / most)  # the terminal's 24 greys run from 232 (dark) to 255 (light)
    ink = "black" if shade > 243 else "white"
    return Text(f"{value:.2g}", style=f"{ink} on color({shade})")
