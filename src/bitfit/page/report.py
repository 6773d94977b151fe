"""One page about a delta that a person can attach to an e-mail: it needs no network and runs nothing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitfit import __version__
from bitfit.backbone.load import Backbone, as_backbone
from bitfit.delta.changes import changes
from bitfit.delta.delta import Delta
from bitfit.errors import RequestError
from bitfit.files import file_name, write_whole
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.predictor import as_delta
from bitfit.inference.stored import stored_evaluation
from bitfit.page import about
from bitfit.page.answers import answer_sections
from bitfit.page.markup import Markup, element, foreign, joined
from bitfit.page.parts import items, paragraph, section
from bitfit.page.words import headline, purpose, quality
from bitfit.training.history import epochs_of

STYLE = Path(__file__).with_name("style.css")
MOST_LETTERS = 1000  # of a note
# The folders before a file's name: a page is sent to others, whom they do not concern.
_FOLDERS = re.compile(r"(?<![\w:/.])(?:~|[A-Za-z]:)?(?:[/\\][^/\\\s'\":,;]+)*[/\\](?=[^/\\\s'\":,;]+)")
# Nothing is fetched and nothing runs, whatever a hostile file got onto the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, repr=False)
class Report:
    """A whole HTML document."""

    html: str
    missing: tuple[str, ...] = ()  # what the page would have, had it been known

    def __repr__(self) -> str:
        return f"Report({len(self.html):,} letters of HTML)"

    def save(self, path: str | Path) -> Path:
        """Writes the page, whole or not at all."""
        path = Path(path)
        try:
            write_whole(path, [self.html.encode("utf-8")])
        except OSError as error:
            raise RequestError(f"'{path}' cannot be written: {error.strerror or error}.") from error
        return path


def report(
    delta: Delta,
    evaluation: Evaluation | None = None,
    backbone: Backbone | str | Path | None = None,
    *,
    file: str | Path | None = None,
    missing: Sequence[str] = (),
) -> Report:
    """A page about a delta: what it does, how good it is, what is doubtful, how it learnt, how to use it.

    With an evaluation (`bitfit.evaluation(backbone, delta, data)`) it says what the answers are worth; with the
    backbone, how far each term moved. Without them it has what the file alone tells. `file` is the delta's name in the
    commands that the page shows, and `missing` says more of what the page lacks.
    """
    delta = as_delta(delta)
    if not isinstance(evaluation, Evaluation | None):
        raise RequestError(f"Expected an Evaluation, as bitfit.evaluation gives it; found {evaluation!r:.80}.")
    moved = () if backbone is None else changes(delta, as_backbone(backbone))
    answered = stored_evaluation(delta) if evaluation is None else evaluation
    lacks = (*missing, *_missing(delta, (evaluation, answered), backbone is not None))
    name = str(file) if file is not None else f"{file_name(delta.task.name) or 'delta'}.safetensors"
    body = joined(
        [
            _header(delta, evaluation),
            about.findings(delta),
            about.scores(delta, evaluation),
            Markup("") if answered is None else answer_sections(delta, answered),
            about.curves(delta),
            about.changed(moved),
            about.data(delta),
            about.use(delta, name),
            about.settings(delta),
            section("Not on this page", items([foreign(without_folders(line), MOST_LETTERS) for line in lacks])),
            _footer(evaluation),
        ]
    )
    return Report(_document(delta.task.name, body), lacks)


def without_folders(text: str) -> str:
    """A note with the names of files alone, without their folders."""
    return _FOLDERS.sub("", text)


def _header(delta: Delta, evaluation: Evaluation | None) -> Markup:
    """The title, and the answer to what it is and how good."""
    main = headline(delta, evaluation)
    sentences = [purpose(delta.task), " ", quality(delta.task, main)] if main else [purpose(delta.task)]
    made = ["A file of ", f"{delta.size:,} trained values for the frozen model ", foreign(delta.backbone), "; method "]
    return element(
        "header",
        None,
        element("h1", {"dir": "auto"}, foreign(delta.task.name)),
        paragraph(*sentences, style="lead"),
        paragraph(*made, foreign(delta.method), ".", style="muted"),
    )


def _missing(delta: Delta, evaluations: tuple[Evaluation | None, Evaluation | None], with_backbone: bool) -> list[str]:
    """What the page lacks; evaluations are the one that was given and the one that is shown."""
    lacks = []
    if evaluations[0] is None:
        stored = "" if evaluations[1] is None else " The figures are those of validation that the file holds."
        lacks.append(f"Single texts and their answers: no data was read.{stored}")
    if not epochs_of(delta.settings):
        lacks.append("Curves of loss and score: the file does not have the epochs of its training.")
    if not with_backbone:
        lacks.append("How far each term moved: the model that it was trained on was not read.")
    return lacks


def _footer(evaluation: Evaluation | None) -> Markup:
    notes = () if evaluation is None else evaluation.notes
    interval = "" if evaluation is None else " An interval is that of 95 % of 1,000 draws of the same rows."
    written = f"Written by bitfit {__version__}.{interval}"
    return element(
        "footer", None, *(paragraph(foreign(without_folders(note), MOST_LETTERS)) for note in notes), paragraph(written)
    )


def _document(title: str, body: Markup) -> str:
    head = joined(
        [
            element("meta", {"charset": "utf-8"}),
            element("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
            element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            element("meta", {"name": "color-scheme", "content": "light dark"}),
            element("title", None, title),
            element("style", None, Markup(STYLE.read_text(encoding="utf-8"))),
        ]
    )
    page = element(
        "html", {"lang": "en"}, element("head", None, head), element("body", None, element("main", None, body))
    )
    return f"<!doctype html>\n{page}\n"
