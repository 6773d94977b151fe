"""A tiny WordPiece tokenizer and small tables for the data tests; nothing is read from the disk."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
WORDS = [*LETTERS, "good", "bad", "film", "the", "is", "was", "not", "very", "fine", "dull"]
WORDS += ["who", "won", "where", "when", ".", ",", "?", "!", "'"]
ENDINGS = [f"##{letter}" for letter in LETTERS]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {piece: index for index, piece in enumerate([*marks, *WORDS, *ENDINGS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


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
