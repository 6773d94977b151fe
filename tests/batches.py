"""Batches in both forms, padded and end to end, and what a plain task model answers to them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bitfit.backbone.heads import Head
from bitfit.runtime.layout import Batch, Layout
from tests.models import inputs

HEADS = (Head("class", 3), Head("class", 3, "mean"), Head("number", 1), Head("tags", 5), Head("span", 2))

# Rates of dropout for the architectures whose configurations have none.
SHAKEN: dict[str, dict[str, float]] = {
    "gpt_neox": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "bloom": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "llama": {"attention_dropout": 0.1},
    "qwen2": {"attention_dropout": 0.1},
    "modernbert": {"attention_dropout": 0.1, "embedding_dropout": 0.1, "mlp_dropout": 0.1},
}


def laid_out(padded: dict[str, Tensor], counts: Sequence[int] | None = None) -> Batch:
    """The same texts end to end; `counts` of them for each row, or one row."""
    real = padded["attention_mask"].bool()
    types = padded.get("token_type_ids", torch.zeros_like(padded["input_ids"]))
    lengths = tuple(real.sum(1).tolist())
    return Batch(padded["input_ids"][real], types[real], Layout(lengths, tuple(counts or [len(lengths)])))


def both(model_type: str, sizes: Sequence[int]) -> tuple[dict[str, Tensor], Batch]:
    """Random texts of these lengths, padded and end to end."""
    padded = inputs(model_type, tuple(sizes))
    return padded, laid_out(padded)


def plain_answers(model: PreTrainedModel, padded: dict[str, Tensor], head: Head) -> Tensor:
    """What a task model of transformers answers, in the form that RowModel has."""
    real = padded["attention_mask"].bool()
    outputs = model(**padded)
    if head.kind == "span":
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)[real]
    return outputs.logits[real] if head.kind == "tags" else outputs.logits


def assert_near(found: Tensor, wanted: Tensor, share: float = 1e-4) -> None:
    """Equal to this share of the largest number that is wanted."""
    found, wanted = found.detach(), wanted.detach()
    assert found.shape == wanted.shape
    assert torch.isfinite(found).all()
    assert float((found - wanted).abs().max()) <= share * float(wanted.abs().max().clamp(min=1e-6))
