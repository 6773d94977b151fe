"""Tiny random models of every listed architecture, built from configurations; nothing is read."""

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from bitfit.backbone.architectures import listed
from bitfit.backbone.fingerprint import fingerprint
from bitfit.backbone.load import Backbone

VOCABULARY, WIDTH, INNER, LAYERS, HEADS, PLACES = 64, 32, 48, 2, 4, 64

_USUAL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": PLACES,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_UNUSUAL: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": WIDTH, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": HEADS},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "bart": {
        "d_model": WIDTH,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": INNER,
        "decoder_ffn_dim": INNER,
        "decoder_start_token_id": 3,
    },
    "gpt2": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": PLACES, "n_inner": INNER},
    "opt": {"ffn_dim": INNER, "word_embed_proj_dim": WIDTH},
    "bloom": {"n_layer": LAYERS, "n_head": HEADS},
    "qwen2": {"num_key_value_heads": 2},
    "llama": {"num_key_value_heads": 2},
    "vit": {"image_size": 16, "patch_size": 4},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
    "t5": {
        "d_model": WIDTH,
        "d_kv": WIDTH // HEADS,
        "d_ff": INNER,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "decoder_start_token_id": 0,
    },
}
ARCHITECTURES = tuple(listed())
BIAS_FREE = ("modernbert", "t5", "llama")


def tiny(model_type: str, **settings: Any) -> PreTrainedModel:
    """A base model with random weights, in eval mode; every bias and scale is away from its usual start."""
    wanted = {**_USUAL, **_UNUSUAL.get(model_type, {}), **settings}
    config = AutoConfig.for_model(model_type, **wanted)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        model = AutoModel.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                # Large enough that a wrong place, a forgotten bias or a wrong split shows in the outputs.
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval().requires_grad_(False)


def tiny_backbone(model_type: str, **settings: Any) -> Backbone:
    """The same as a Backbone, with a tokenizer of its vocabulary; images have none."""
    model = tiny(model_type, **settings)
    tokenizer = None if model_type == "vit" else tiny_tokenizer()
    return Backbone(f"tiny-{model_type}", model.config, tokenizer, model, fingerprint(model))


def inputs(model_type: str, sizes: tuple[int, ...] = (9, 9)) -> dict[str, torch.Tensor]:
    """A padded batch with texts of these lengths (or as many images)."""
    generator = torch.Generator().manual_seed(11)
    if model_type == "vit":
        return {"pixel_values": torch.randn(len(sizes), 3, 16, 16, generator=generator)}
    ids = torch.randint(4, VOCABULARY, (len(sizes), max(sizes)), generator=generator)
    mask = (torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]).long()
    ids[torch.arange(len(sizes)), torch.tensor(sizes) - 1] = 3  # the end, which BART and T5 look for
    return {"input_ids": ids * mask, "attention_mask": mask}


@cache
def _as_bert_joins() -> processors.TemplateProcessing:
    """The special pieces around a text or a pair."""
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Sixty words w4 ... w63 and the special pieces, pairs as BERT joins them."""
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    words = {f"w{number}": number for number in range(4, VOCABULARY)}
    core = Tokenizer(models.WordLevel({**special, **words}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = _as_bert_joins()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=PLACES,
    )


LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
WORDS = [*LETTERS, "good", "bad", "film", "the", "is", "was", "not", "very", "fine", "dull"]
WORDS += ["who", "won", "where", "when", ".", ",", "?", "!", "'"]
ENDINGS = [f"##{letter}" for letter in LETTERS]


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """Letters and some words, cut as BERT's tokenizer cuts."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {piece: index for index, piece in enumerate([*marks, *WORDS, *ENDINGS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = _as_bert_joins()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
