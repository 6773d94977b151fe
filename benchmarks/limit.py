"""The most that this processor can do: its rate of matrix products, and how many operations a token needs."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bitfit.backbone.memory import keep_freed_memory
from bitfit.runtime.precision import product_rate

LAYER = ((4, 384, 384), (1, 384, 1536), (1, 1536, 384))  # the embedded model's: how many, inner, columns
ROWS = (1024, 8192)  # tokens of a batch: Rotten Tomatoes, IMDB
SQUARE = (2048, 2048, 2048)  # what a processor likes best
SECONDS = 0.3  # for each product and format
FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Products with the weights: 2 operations forward, 2 back to the inputs, 2 for the weights' own gradients.
# Attention: two products forward (scores, mixing) and four back, each 2 * attended * width for a token.
WEIGHTS = {"frozen": 2, "bitfit": 4, "lora": 4, "full": 6}
ATTENTION = {"frozen": 4, "bitfit": 12, "lora": 12, "full": 12}


def rates() -> dict[str, float]:
    """GFLOP/s of each format: the best of any product, and a layer's own products one after another."""
    keep_freed_memory()
    found = {}
    for name, dtype in FORMATS.items():
        measured = {(rows, *own): product_rate(dtype, SECONDS, (rows, *own)) for rows in ROWS for _, *own in LAYER}
        found[name] = max(*measured.values(), product_rate(dtype, SECONDS, SQUARE)) / 1e9
        for rows in ROWS:
            found[f"{name}_layer_{rows}"] = _in_turn({own: measured[rows, *own[1:]] for own in LAYER}) / 1e9
    return found


def _in_turn(found: Mapping[tuple[int, int, int], float]) -> float:
    """The rate of products (how many, inner, columns) done one after another, from their own rates."""
    sizes = {product: math.prod(product) for product in found}
    return sum(sizes.values()) / sum(size / found[product] for product, size in sizes.items())


def operations_a_token(encoder: PreTrainedModel, method: str, attended: float) -> float:
    """Floating-point operations that training cannot do without, for one real token.

    Norms, activations, dropout, the head and LoRA's own small products are left out: they count as overhead.
    """
    config: Any = encoder.config
    weights = sum(
        module.weight.numel()
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and "pooler" not in name  # the pooler sees one token of each sequence
    )
    attention = config.num_hidden_layers * config.hidden_size * attended
    return WEIGHTS[method] * weights + ATTENTION[method] * attention
