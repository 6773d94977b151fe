"""A tiny model in a folder, for the commands; and a cache of the session's own."""

from pathlib import Path

import pytest

from tests.models import tiny, tiny_tokenizer


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("BITFIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """BERT's shape, with the sixty words w4 ... w63."""
    folder: Path = tmp_path_factory.mktemp("tiny-bert")
    tiny("bert").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)
