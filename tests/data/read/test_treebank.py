"""Tagged sentences are read from CoNLL-U, CoNLL columns and both Penn Treebank forms."""

from pathlib import Path

import pytest

from bitfit.data.options import DataOptions
from bitfit.data.read.formats import read_file
from bitfit.data.read.source import load_task
from bitfit.errors import DataError

CONLLU = """# text = Don't go
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
2.1\tghost\t_\tX\tX\t_\t_\t_\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
"""
COLUMNS = "-DOCSTART- -X- -X- O\n\nAnn NNP B-NP B-PER\nran VBD B-VP O\n\nHome NN B-NP O\n"
SLASHED = "======\n\n[ Pierre/NNP Vinken/NNP ]\n,/, and/or\\/CC\n./.\n\n====\n[ 1\\/2/CD|NN ]\n"
BRACKETED = """( (S (NP-SBJ (NNP Ann) (-NONE- *T*-1))
   (VP (VBD ran)) (. .)) )
( (X (CD 1\\/2)))
"""


def test_conllu_leaves_out_ranges_and_empty_nodes(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(CONLLU)
    part = read_file(tmp_path / "a.conllu")
    assert dict(part.columns) == {
        "tokens": [["Do", "n't", "go"]],
        "upos": [["AUX", "PART", "VERB"]],
        "xpos": [["VB", "RB", "VB"]],
    }


def test_columns_take_the_last_as_tag(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(COLUMNS)
    part = read_file(tmp_path / "a.conll")
    assert dict(part.columns) == {"tokens": [["Ann", "ran"], ["Home"]], "tags": [["B-PER", "O"], ["O"]]}


def test_slashed_words(tmp_path: Path) -> None:
    (tmp_path / "a.pos").write_text(SLASHED)
    part = read_file(tmp_path / "a.pos")
    assert part.columns["tokens"][0][-2:] == ["and", "."] or part.columns["tokens"][0][-1] == "."
    assert part.columns["tokens"][1] == ["1/2"]
    assert part.columns["tags"][1] == ["CD"]


def test_trees_lose_their_traces(tmp_path: Path) -> None:
    (tmp_path / "a.mrg").write_text(BRACKETED)
    part = read_file(tmp_path / "a.mrg")
    assert dict(part.columns) == {"tokens": [["Ann", "ran", "."], ["1/2"]], "tags": [["NNP", "VBD", "."], ["CD"]]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.conllu", CONLLU + "4\tcut\n", "10 columns parted by tabs expected, 2 found"),
        ("a.conllu", CONLLU.replace("\n3\t", "\nx\t"), "a word's number expected, 'x' found"),
        ("a.conll", COLUMNS + "\nword\n", "sentence 3: 4 columns expected, 1 found"),
        ("a.pos", SLASHED + "bare word\n", "word/TAG expected, 'bare' found"),
        ("a.mrg", BRACKETED + "( (S (NN", "the file ends inside a tree"),
        ("a.mrg", ")\n", "more brackets closed than opened"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words.replace("(", r"\(")):
        load_task(str(tmp_path / name))


def test_a_treebank_folder_with_chosen_tags(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        (tmp_path / f"xx-ud-{split}.conllu").write_text((CONLLU + "\n") * 3)
    table = load_task(str(tmp_path), options=DataOptions(tags="xpos"))
    assert table.task.labels == ("RB", "VB")
    assert load_task(str(tmp_path)).task.labels == ("AUX", "PART", "VERB")
