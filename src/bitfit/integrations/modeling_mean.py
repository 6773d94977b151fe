"""A sequence classifier on the mean of a text's tokens, for any base model of transformers.

`bitfit delta merge` copies this file into a folder, where transformers runs it for those who allow it: it imports
nothing but torch and transformers.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanPoolingConfig(PretrainedConfig):
    """The base model's configuration, and what the head adds to it."""

    model_type = "mean-pooling"
    sub_configs = {"base_config": AutoConfig}  # noqa: RUF012, transformers' own attribute

    def __init__(
        self,
        base_config: dict[str, Any] | PretrainedConfig | None = None,
        width: int = 0,
        dropout: float = 0.0,
        **settings: Any,
    ) -> None:
        if isinstance(base_config, dict):
            base_config = AutoConfig.for_model(**base_config)
        self.base_config = base_config
        self.width = width
        self.dropout = dropout
        super().__init__(**settings)


class MeanPoolingForSequenceClassification(PreTrainedModel):
    """Dropout and one linear layer on the mean of the base model's last hidden states."""

    config_class = MeanPoolingConfig
    base_model_prefix = "base"
    # The base model decides which of them it has.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: MeanPoolingConfig) -> None:
        super().__init__(config)
        base = config.base_config
        # Of models with a decoder, the encoder alone where transformers has it apart.
        auto: Any = AutoModelForTextEncoding if type(base) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        self.base = auto.from_config(base)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.width, cast(int, config.num_labels))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput:
        """Logits (batch, labels), and the loss where labels are given; the mask (batch, tokens) is 1 at real tokens."""
        hidden = self.base(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        mask = hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask.to(hidden.dtype)
        mean = torch.einsum("btw,bt->bw", hidden, mask) / mask.sum(1, keepdim=True).clamp(min=1)
        logits = self.linear(self.dropout(mean))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)
