"""The most that this processor can do: its rate of matrix products, and how many operations a token needs."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bitfit.backbone.memory import keep_freed_memory
from bitfit.backbone.precision import product_rate

# rows, inner, columns: the embedded model's own products at two batch sizes, and square ones
PRODUCTS = ((2048, 384, 1536), (8192, 384, 384), (8192, 384, 1536), (8192, 1536, 384), (2048, 2048, 2048))
SECONDS = 0.5  # for each product and format
# Products with the weights: 2 operations forward, 2 back to the inputs, 2 for the weights' own gradients.
# Attention: two products forward (scores, mixing) and four back, each 2 * attended * width for a token.
WEIGHTS = {"frozen": 2, "bitfit": 4, "lora": 4, "full": 6}
ATTENTION = {"frozen": 4, "bitfit": 12, "lora": 12, "full": 12}


def rates() -> dict[str, float]:
    """The best rate of each format, in GFLOP/s."""
    keep_freed_memory()
    formats = {"bf16": torch.bfloat16, "fp32": torch.float32}
    return {
        name: max(product_rate(dtype, SECONDS, product) for product in PRODUCTS) / 1e9
        for name, dtype in formats.items()
    }


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
