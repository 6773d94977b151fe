"""How a file of text is written: its encoding, and the mark between its columns."""

import codecs
from dataclasses import dataclass
from difflib import get_close_matches
from encodings.aliases import aliases
from pathlib import Path
from typing import Protocol, Self, TextIO

from bitfit.errors import RequestError

DELIMITERS = ",;\t|"  # the usual ones
_NOT_DELIMITERS = ("\n", "\r", '"', "\0")
_UTF8 = ("utf-8", "utf-8-sig")


class Stated(Protocol):
    """Whatever may say how a file is written."""

    @property
    def encoding(self) -> str | None: ...

    @property
    def delimiter(self) -> str | None: ...


@dataclass(frozen=True)
class TextFormat:
    """What a user says about it; None: UTF-8, commas in CSV and tabs in TSV."""

    encoding: str | None = None
    delimiter: str | None = None

    @classmethod
    def of(cls, stated: Stated) -> Self:
        """What these options or this input file say."""
        return cls(stated.encoding, stated.delimiter)

    def __post_init__(self) -> None:
        if self.encoding is not None and not _is_encoding(self.encoding):
            raise RequestError(
                f"There is no encoding {self.encoding!r:.80}. {_nearest_encoding(self.encoding)}Expected one that "
                "Python reads, such as utf-8, utf-16, latin-1, cp1252 or shift-jis."
            )
        mark = self.delimiter
        if mark is not None and (not isinstance(mark, str) or len(mark) != 1 or mark in _NOT_DELIMITERS):
            raise RequestError(
                "Expected one character as delimiter, such as ';' or a tab, and no quote or line's end; "
                f"found {mark!r:.80}."
            )

    def open(self, path: Path, newline: str | None = None) -> TextIO:
        """The file's text. Without an encoding, bytes that are not UTF-8 come through as lone surrogates; with one,
        bytes that it does not have raise UnicodeError."""
        if self.encoding is None or codecs.lookup(self.encoding).name in _UTF8:
            return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
        return path.open(encoding=self.encoding, newline=newline)

    def refuse(self, what: str) -> None:
        """Refuse both where nothing is read from text."""
        given = {"encoding": self.encoding, "delimiter": self.delimiter}
        names = [f"`{name}={value!r}`" for name, value in given.items() if value is not None]
        if names:
            raise RequestError(
                f"{' and '.join(names)} can change nothing about {what}, which is no file of text. Leave "
                f"{'it' if len(names) == 1 else 'them'} out."
            )


def _is_encoding(name: object) -> bool:
    """Whether Python reads text in it; codecs of bytes to bytes (base64) are no encodings of text."""
    if not isinstance(name, str):
        return False
    try:
        "a".encode(name)
    except (LookupError, ValueError):  # ValueError: a NUL in the name; "undefined", which reads nothing
        return False
    return True


def _nearest_encoding(name: object) -> str:
    names = {alias.replace("_", "-"): alias for alias in [*aliases, *aliases.values()]}
    close = get_close_matches(str(name).lower().replace("_", "-"), names, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'? " if close else ""
