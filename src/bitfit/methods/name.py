"""A method's name taken apart: family, terms, layers.

bitfit   bitfit[b_m2,b_q]   bitfit[query]@6-11   layernorm@last4   bitfit[all-but-key]   bitfit[auto:0.04%]
houlsby[64]   lora[r=4,alpha=8,query,key]   diff-pruning[structured]
"""

import re
from dataclasses import dataclass

from bitfit.errors import RequestError

_SHAPE = re.compile(r"(?P<family>[A-Za-z][A-Za-z0-9_-]*)(\[(?P<terms>[^\[\]]*)\])?(@(?P<layers>.+))?")
_LAYERS = re.compile(r"(?P<first>\d+)(-(?P<last>\d+))?|(?P<end>first|last)(?P<count>[1-9]\d*)")


@dataclass(frozen=True)
class MethodName:
    """What a method's name asks for; `parse` sorts its words and drops doubles, so that equal methods compare equal."""

    family: str
    terms: tuple[str, ...] = ()  # the words in brackets; empty for none
    layers: tuple[str, ...] = ()  # "3", "6-11", "last4", "first2"; empty for all

    @property
    def text(self) -> str:
        """The name in one spelling, without blanks."""
        terms = f"[{','.join(self.terms)}]" if self.terms else ""
        return self.family + terms + (f"@{','.join(self.layers)}" if self.layers else "")

    @classmethod
    def parse(cls, text: str) -> "MethodName":
        """A name taken apart; a name of another shape is refused."""
        if not isinstance(text, str):
            raise RequestError(f"Expected a method's name, such as 'bitfit'; found {text!r:.80}.")
        if gap := re.search(r"[\w%]+\s+\w+", text):
            raise RequestError(f"Words in a method's name stand between commas; found '{gap[0]}' in '{text}'.")
        match = _SHAPE.fullmatch("".join(text.split()))
        if match is None:
            raise RequestError(
                f"A method looks like 'bitfit', 'bitfit[b_m2,b_q]' or 'bitfit[query]@6-11'; found '{text}'."
            )
        terms = _items(text, match["terms"], "terms in brackets")
        layers = _items(text, match["layers"], "layers after the @")
        for item in layers:
            _shape_of_layers(text, item)
        return cls(match["family"], tuple(sorted(terms)), tuple(sorted(layers, key=_by_number)))

    def chosen_layers(self, count: int) -> frozenset[int]:
        """The layers asked for, of `count` layers numbered from 0; all of them where none were named."""
        if not self.layers:
            return frozenset(range(count))
        return frozenset().union(*(_span(self.text, item, count) for item in self.layers))


def _items(text: str, items: str | None, what: str) -> tuple[str, ...]:
    if items is None:
        return ()
    parts = tuple(dict.fromkeys(items.split(",")))
    if not all(parts):
        raise RequestError(f"The method '{text}' has no {what}, or an empty one among them.")
    return parts


def _by_number(item: str) -> tuple[bool, list[int], str]:
    """Numbered layers first, 9 before 10."""
    return not item[0].isdigit(), [int(number) for number in re.findall(r"\d+", item)], item


def _shape_of_layers(text: str, item: str) -> re.Match[str]:
    match = _LAYERS.fullmatch(item)
    if match is None:
        raise RequestError(f"Layers look like '3', '0-5', 'last4' or 'first2'; found '{item}' in '{text}'.")
    return match


def _span(text: str, item: str, count: int) -> range:
    match = _shape_of_layers(text, item)
    if match["end"]:
        number = int(match["count"])
        span = range(number) if match["end"] == "first" else range(count - number, count)
    else:
        span = range(int(match["first"]), int(match["last"] or match["first"]) + 1)
    if not span or span.start < 0 or span.stop > count:
        have = f"{count} layers, 0 to {count - 1}" if count else "no layers that bitfit can number"
        raise RequestError(f"The layers '{item}' in '{text}' are not there: the model has {have}.")
    return span
