"""What a user may say about the data of a task beside its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from bitfit.backbone.heads import HeadKind, Pool
from bitfit.data.task import COLUMN_EACH, is_text, require_choice
from bitfit.data.text_format import TextFormat
from bitfit.errors import RequestError, nearest

MIN_LENGTH = 8  # pieces: room for the special ones of a pair and a little of each text
OF_READING = (  # what is settled once the rows are read
    *("text", "text_pair", "label", "tokens", "tags", "data_dir", "name"),
    *("encoding", "delimiter", "label_separator", "skip_bad_rows"),
)


def option(name: str, value: object = None) -> str:
    """An option in a message, as Python writes it; the command line shows its own instead (cli/wording.py)."""
    return f"`DataOptions({name}={'...' if value is None else repr(value)})`"


@dataclass(frozen=True)
class DataOptions:
    """Columns, folder, length and size; None means: find out, or take the task's own."""

    text: str | None = None  # column of the text (for span: of the question)
    text_pair: str | None = None  # column of the second text (for span: of the context)
    label: str | Sequence[str] | None = None  # several: columns of 0 and 1, one for each label
    label_separator: str | None = None  # between the labels of one cell; None: a cell of text is one label
    tokens: str | None = None  # column of word lists
    tags: str | None = None  # column of tag lists
    data_dir: Path | None = None  # folder with local copies in the hub's layout
    max_length: int | None = None  # pieces, special ones included
    pool: Pool | None = None
    kind: HeadKind | None = None
    train_size: int | None = None  # rows of train to keep, drawn by `seed`; a larger draw holds the smaller
    seed: int = 0
    name: str | None = None  # of a task of one's own; None: the file's, or "in-memory"
    encoding: str | None = None  # of files of text; None: UTF-8
    delimiter: str | None = None  # between columns; None: a comma in CSV, a tab in TSV
    skip_bad_rows: bool = False  # leave out rows of one's own that cannot be used, rather than refuse them all

    @classmethod
    def of(cls, given: "DataOptions | Mapping[str, Any] | None") -> "DataOptions":
        """Options as they are, or those of a dict; the usual ones where there are none."""
        if isinstance(given, DataOptions):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise RequestError(f"Expected DataOptions or a dict of them; found {given!r:.80}.")
        known = [field.name for field in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise RequestError(f"There is no data option '{name}'. {nearest(str(name), known)}")
        return cls(**(given or {}))

    def __post_init__(self) -> None:
        for name in ("max_length", "train_size", "seed"):  # numpy's numbers become Python's
            if hasattr(value := getattr(self, name), "item"):
                object.__setattr__(self, name, value.item())
        if isinstance(self.label, list | tuple) and all(map(is_text, self.label)) and self.label:
            object.__setattr__(self, "label", self.label[0] if len(self.label) == 1 else tuple(self.label))
        for name in ("text", "text_pair", "label_column", "tokens", "tags"):
            if not (getattr(self, name) is None or is_text(getattr(self, name))):
                name, found = name.removesuffix("_column"), getattr(self, name)
                raise RequestError(f"Expected the name of one column as {name}; found {found!r:.80}.")
        self._check_labels()
        if self.name is not None and not is_text(self.name):
            raise RequestError(f"Expected a text as the task's name; found {self.name!r:.80}.")
        for name, choices in (("kind", HeadKind), ("pool", Pool)):
            if getattr(self, name) is not None:
                require_choice(name, getattr(self, name), choices)
        for name in ("max_length", "train_size", "seed"):
            if type(value := getattr(self, name)) is not int and (value is not None or name == "seed"):
                raise RequestError(f"Expected a whole number as {name}; found {value!r:.80}.")
        if type(self.skip_bad_rows) is not bool:
            raise RequestError(f"Expected True or False as skip_bad_rows; found {self.skip_bad_rows!r:.80}.")
        TextFormat.of(self)  # refuses what is none
        if not isinstance(self.data_dir, str | Path | None):
            raise RequestError(f"Expected a folder as data_dir; found {self.data_dir!r:.80}.")
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", Path(self.data_dir))  # a text names a folder as well
        if self.max_length is not None and self.max_length < MIN_LENGTH:
            raise RequestError(f"Expected a maximum length of {MIN_LENGTH} or more; found {self.max_length}.")
        if self.train_size is not None and self.train_size < 1:
            raise RequestError(f"Expected a train size of 1 or more; found {self.train_size}.")

    def _check_labels(self) -> None:
        """What only a task of any number of labels has."""
        twice = [name for name in self.label_columns if self.label_columns.count(name) > 1]
        if twice:
            raise RequestError(f"The label column '{twice[0]}' is named twice: {', '.join(self.label_columns)}.")
        separator = self.label_separator
        if separator is not None and not is_text(separator):
            raise RequestError(f"Expected the text between two labels as label_separator; found {separator!r:.80}.")
        if self.label_columns and separator is not None:
            raise RequestError(f"Columns of 0 and 1 have no labels to part: leave out {option('label_separator')}.")
        several = option("label") if self.label_columns else option("label_separator") if separator else ""
        if several and self.kind not in (None, "labels"):
            raise RequestError(f"{several} with several labels is for the kind 'labels'; found the kind '{self.kind}'.")

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of 0 and 1, where several were named."""
        return tuple(self.label) if isinstance(self.label, tuple) else ()

    @property
    def label_column(self) -> str | None:
        """The column of the label, as a task names it."""
        return COLUMN_EACH if self.label_columns else cast("str | None", self.label)

    def refuse(self, what: str, names: Sequence[str]) -> None:
        """Refuse options of these names where they could change nothing."""
        given = [name for name in names if getattr(self, name) not in (None, False)]
        if given:
            raise RequestError(
                f"{', '.join(map(option, given))} can change nothing about {what}, which has its rows already. Leave "
                f"{'it' if len(given) == 1 else 'them'} out, or give the rows themselves."
            )
