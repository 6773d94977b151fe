"""Reads files of tagged sentences: CoNLL-U, CoNLL columns, and two forms of the Penn Treebank.

Each gives parts with a column `tokens` and columns of tags; a row is a sentence, counted from 1.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bitfit.data.read.chunk import Chunk, shown
from bitfit.data.text_format import TextFormat

_LEAF = re.compile(r"\(\s*([^\s()]+)\s+([^\s()]+)\s*\)")
_SPACES = re.compile(r"[ \t]+")  # other spaces, such as those that do not break, are part of a word
_TRACE = "-NONE-"  # tag of what is not in the text


@dataclass
class _Sentence:
    tokens: list[str] = field(default_factory=list)
    tags: dict[str, list[str]] = field(default_factory=dict)

    def add(self, token: str, tags: Mapping[str, str]) -> None:
        self.tokens.append(token)
        for column, tag in tags.items():
            self.tags.setdefault(column, []).append(tag)


Item = _Sentence | str  # a sentence, or what is wrong with it


def read_conllu(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    """Universal Dependencies: columns tokens, upos, xpos; ranges (1-2) and empty nodes (1.1) are left out."""
    return _parts(path, rows, written, _conllu_sentences)


def read_columns(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    """CoNLL 2003 and like it: the word first, its tag last on each line; columns tokens and tags."""
    return _parts(path, rows, written, _column_sentences)


def read_slashed(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    """The Penn Treebank's tagged form, word/TAG; columns tokens and tags."""
    return _parts(path, rows, written, _slashed_sentences)


def read_bracketed(path: Path, rows: int, written: TextFormat) -> Iterator[Chunk]:
    """The Penn Treebank's trees, (TAG word) at the leaves; columns tokens and tags, traces left out."""
    return _parts(path, rows, written, _bracketed_sentences)


def _parts(
    path: Path, rows: int, written: TextFormat, parse: Callable[[Iterator[str]], Iterator[Item]]
) -> Iterator[Chunk]:
    with written.open(path) as file:
        numbered = enumerate(parse(iter(file)), start=1)
        first = True
        while chunk := list(islice(numbered, rows)):
            yield _part(path, chunk)
            first = False
        if first:
            yield Chunk(str(path), {"tokens": []})


def _part(path: Path, items: list[tuple[int, Item]]) -> Chunk:
    good = [(number, item) for number, item in items if isinstance(item, _Sentence)]
    problems = [f"{path}, sentence {number:,}: {item}" for number, item in items if isinstance(item, str)]
    names = dict.fromkeys(name for _, sentence in good for name in sentence.tags)
    columns: dict[str, list[list[str] | None]] = {"tokens": [sentence.tokens for _, sentence in good]}
    columns.update({name: [sentence.tags.get(name) for _, sentence in good] for name in names})
    return Chunk(str(path), columns, items[0][0], [number for number, _ in good], {}, problems)


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones."""
    block: list[str] = []
    for line in lines:
        if line.strip(" \t\r\n"):
            block.append(line.rstrip("\r\n"))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _conllu_sentences(lines: Iterator[str]) -> Iterator[Item]:
    for block in _blocks(lines):
        words = [line.split("\t") for line in block if not line.startswith("#")]
        if words:
            yield _conllu_sentence(words)


def _conllu_sentence(words: list[list[str]]) -> Item:
    sentence = _Sentence()
    for fields in words:
        if len(fields) != 10:
            return f"10 columns parted by tabs expected, {len(fields)} found: {shown(fields)}"
        if re.fullmatch(r"[0-9]+", fields[0]):
            sentence.add(fields[1], {"upos": fields[3], "xpos": fields[4]})
        elif not re.fullmatch(r"[0-9]+[-.][0-9]+", fields[0]):
            return f"a word's number expected, {shown(fields[0])} found"
    return sentence


def _column_sentences(lines: Iterator[str]) -> Iterator[Item]:
    width = 0
    for block in _blocks(lines):
        words = [_SPACES.split(line.strip(" \t")) for line in block if not line.startswith("-DOCSTART-")]
        width = width or len(words[0] if words else [])
        odd = next((fields for fields in words if len(fields) != width or width < 2), None)
        if odd is not None:
            yield f"{max(width, 2)} columns expected, {len(odd)} found: {shown(' '.join(odd))}"
        elif words:
            sentence = _Sentence()
            for fields in words:
                sentence.add(fields[0], {"tags": fields[-1]})
            yield sentence


def _slashed_sentences(lines: Iterator[str]) -> Iterator[Item]:
    rule = re.compile(r"=+\s*")
    for block in _blocks("\n" if rule.fullmatch(line) else line for line in lines):
        items = [item for item in " ".join(block).split() if item not in ("[", "]")]
        sentence = _Sentence()
        for item in items:
            word, slash, tag = item.rpartition("/")
            if not slash or not word or not tag:
                yield f"word/TAG expected, {shown(item)} found"
                break
            sentence.add(word.replace("\\/", "/"), {"tags": tag.split("|")[0]})
        else:
            if sentence.tokens:
                yield sentence


def _bracketed_sentences(lines: Iterator[str]) -> Iterator[Item]:
    tree: list[str] = []
    depth = 0
    for line in lines:
        tree.append(line)
        depth += line.count("(") - line.count(")")
        if depth < 0:
            yield f"more brackets closed than opened: {shown(line.strip())}"
            tree, depth = [], 0
        elif depth == 0 and any(chunk.strip() for chunk in tree):
            yield _tree("".join(tree))
            tree = []
    if depth > 0:
        yield "the file ends inside a tree"


def _tree(text: str) -> Item:
    sentence = _Sentence()
    for tag, word in _LEAF.findall(text):
        if tag != _TRACE:
            sentence.add(word.replace("\\/", "/"), {"tags": tag})
    return sentence if sentence.tokens else f"a tree with tagged words expected, found {shown(text.strip())}"
