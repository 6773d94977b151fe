"""Builds HTML out of values: whatever is not markup already is escaped.

A delta and its data are foreign: no text of theirs may become a tag, an attribute, or a sign that turns the direction
of what follows.
"""

import html
import re
from collections.abc import Iterable, Mapping

# Signs without a shape, those that turn the direction of writing, and halves of letters that UTF-8 cannot write.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_NO_END = {"meta", "rect", "line", "circle", "polyline"}  # elements that may have no children

Attributes = Mapping[str, str | float | None]


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """A text as HTML that shows it; markup stays what it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNSEEN.sub(_spelt, text), quote=True))


def element(name: str, attributes: Attributes | None = None, *children: str) -> Markup:
    """An element; an attribute that is None is left out."""
    given = [(key, value) for key, value in (attributes or {}).items() if value is not None]
    start = "".join(f' {key}="{escaped(_shown(value))}"' for key, value in given)
    if name in _NO_END and not children:
        return Markup(f"<{name}{start}/>")
    return Markup(f"<{name}{start}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """Parts one after another."""
    return Markup("".join(map(escaped, parts)))


def foreign(text: str, most: int = 300) -> Markup:
    """A word of the delta or of its data, whatever its direction of writing; a long one is shortened."""
    return element("bdi", None, shortened(text, most))


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shown(value: str | float) -> str:
    """Coordinates need no more than two decimals."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def _spelt(found: re.Match[str]) -> str:
    """As Python writes it."""
    return repr(found[0])[1:-1] if not "\ud800" <= found[0] <= "\udfff" else "�"
