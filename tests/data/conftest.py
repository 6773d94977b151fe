"""A tiny WordPiece tokenizer and small tables for the data tests; nothing is read from the disk."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.models import wordpiece_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return wordpiece_tokenizer()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BITFIT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not on this machine")
    return folder
