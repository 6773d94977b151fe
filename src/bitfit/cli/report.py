"""`bitfit report`: one HTML page about a delta, to look at or to send."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitfit.cli.options import backbone_of, data_options_but, machine_options, overwrite_option, scored_options
from bitfit.cli.output import json_option, log, plain, result
from bitfit.cli.output_file import check_new
from bitfit.cli.wording import in_shell
from bitfit.errors import BackboneError, BitfitError, DataError, MissingExtraError, RequestError

if TYPE_CHECKING:
    from bitfit.backbone.load import Backbone
    from bitfit.delta.delta import Delta
    from bitfit.inference.evaluation import Evaluation


@click.command("report")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page to write. Default: FILE's name with .html.")
@scored_options
@click.option("--no-data", is_flag=True, help="Make the page of what the file alone tells: neither model nor data.")
@overwrite_option
@machine_options
@data_options_but("pool", "kind")  # these are the delta's
@json_option
def command(
    file: Path,
    out: Path | None,
    split: str | None,
    model: str | None,
    task: str | None,
    no_data: bool,
    overwrite: bool,
    options: Any,
    as_json: bool,
    **machine: Any,
) -> None:
    """Write one self-contained HTML page about the delta in FILE.

    It says what the model does and how good it is, beside its rivals; what training found doubtful; scores, classes,
    confusions, confidences and the surest errors; how it learnt, what changed, and how to use it. The page needs no
    network and runs nothing, so that it can be sent.

    Data is read as `bitfit eval` reads it: give --task for data of your own, and --data-dir again. The page shows texts
    of that data. Where nothing is asked for and the model or the data cannot be had, the page says so and has what the
    file alone tells.

    --json: {delta, page, bytes, split, missing: [...]}
    """
    from bitfit.data.options import DataOptions
    from bitfit.delta.delta import Delta
    from bitfit.page.report import report

    page = out or file.with_suffix(".html")
    asked = bool(split or model or task or options != DataOptions())
    if no_data and (asked or set(machine.values()) != {"auto"}):
        raise RequestError("--no-data reads neither model nor data: leave out --split, --model, --task and the like.")
    if page.resolve() == file.resolve():
        raise RequestError(
            f"--out names the page, and '{page}' is the delta itself. Give --out {file.with_suffix('.html')}."
        )
    check_new(page, overwrite)
    delta = Delta.load(file)
    missing: list[str] = []
    backbone = None if no_data else _backbone(delta, model, asked, missing)
    evaluated = None
    if backbone is not None:
        evaluated = _evaluated(delta, backbone, (task, split), options, machine, asked, missing)
    made = report(delta, evaluated, backbone, file=file.name, missing=missing)
    made.save(page)
    document = {
        "delta": str(file),
        "page": str(page),
        "bytes": page.stat().st_size,
        "split": None if evaluated is None else evaluated.split,
        "missing": list(made.missing),
    }
    for text in made.missing:
        log().print(plain(f"Not on the page: {text}"))
    result(as_json, document, lambda console: console.print(plain(f"{page}: {page.stat().st_size / 1000:,.0f} KB")))


def _backbone(delta: "Delta", model: str | None, asked: bool, missing: list[str]) -> "Backbone | None":
    """The delta's model; None where nobody asked for it and it cannot be had."""
    try:
        return backbone_of(delta, model)
    except (BackboneError, MissingExtraError, RequestError) as error:
        _go_on_without("The model cannot be had", error, asked, missing)
        return None


def _evaluated(
    delta: "Delta",
    backbone: "Backbone",
    data: tuple[str | None, str | None],
    options: Any,
    machine: dict[str, Any],
    asked: bool,
    missing: list[str],
) -> "Evaluation | None":
    """What its answers are worth; None where nobody asked for certain data and its own cannot be had."""
    from bitfit.inference.evaluate import evaluation

    try:
        return evaluation(backbone, delta, *data, options=options, **machine)
    except (DataError, MissingExtraError, RequestError) as error:
        _go_on_without("The data cannot be had", error, asked, missing)
        return None


def _go_on_without(what: str, error: BitfitError, asked: bool, missing: list[str]) -> None:
    """Say what is missing, and why; what somebody asked for is an error."""
    if asked:
        raise error
    missing.append(f"{what}: {in_shell(str(error)).splitlines()[0]}")
