"""The architecture's own head on an encoder's hidden states, for many rows at once."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from bitfit.backbone.architectures import architecture
from bitfit.backbone.device import CPU
from bitfit.backbone.heads import Head, OwnTask
from bitfit.runtime.dropout import Draws
from bitfit.runtime.encoder import move, pad_of
from bitfit.runtime.layers import FastNorm, FunctionalDropout, reads_from_pass, replace_layers
from bitfit.runtime.layout import Layout
from bitfit.runtime.linear import FastLinear
from bitfit.runtime.passes import Parameters, Pass, current, running


class HeadRunner:
    """A task model whose encoder is taken out for good; the encoder's pooler, which reads a text's states, stays."""

    def __init__(self, model: PreTrainedModel, head: Head, compute: torch.dtype, device: torch.device = CPU) -> None:
        self.head, self.device, self.pad = head, device, pad_of(model.config)
        known = architecture(model.config.model_type)
        self.reads_last = known is not None and known.summary == "last"
        # ModernBERT's configuration may ask for the mean where the task does not.
        self.reads_mean = isinstance(model, OwnTask) or getattr(model.config, "classifier_pooling", None) == "mean"
        self.loose_dropout = known is not None and known.loose_dropout
        # The pooler's weight is kept in the encoder's format, the head's in fp32.
        stand_in = _take_encoder_out(model)
        replace_layers(stand_in, compute)
        replace_layers(model, torch.float32)
        move(model, device)
        self.model = model.train().requires_grad_(False)  # a pass without draws has no dropout whatever this says
        self.parameters = Parameters(model, "", reads_from_pass)

    @property
    def per_text(self) -> bool:
        """Does it answer once for each text, and not for each token?"""
        return self.head.per_text

    def takes_rows(self, name: str) -> bool:
        """Can this parameter have a value for each row?"""
        return isinstance(self.parameters.modules[name][0], FastLinear | FastNorm)

    def answers(
        self, states: Tensor, layout: Layout, values: Mapping[str, Tensor], draws: Draws | None = None
    ) -> Tensor:
        """The head's numbers of the sequences whose hidden states, (tokens, size), these are: (sequences, outputs) for
        texts, (tokens, outputs) for tags and spans."""
        return self.answers_to(self.summary(states, layout), layout, values, draws)

    def summary(self, states: Tensor, layout: Layout) -> Tensor:
        """What the head reads: one state of each text, (sequences, size), or all of them, (tokens, size)."""
        if not self.per_text:
            return states
        starts = layout.as_tensor(layout.starts)
        if not self.reads_mean:
            return states[starts[1:] - 1 if self.reads_last else starts[:-1]]
        owner = layout.as_tensor(np.repeat(np.arange(len(layout.lengths)), layout.lengths))
        total = torch.zeros(len(layout.lengths), states.shape[-1], device=self.device)
        return total.index_add(0, owner, states.float()) / layout.as_tensor(layout.lengths)[:, None]

    def answers_to(
        self, summary: Tensor, layout: Layout, values: Mapping[str, Tensor], draws: Draws | None = None
    ) -> Tensor:
        """The same, of what `summary` gave."""
        segments = layout.sequences if self.per_text else layout.tokens
        states = summary[:, None] if self.per_text else summary[None]
        one = Pass(layout, segments, draws=draws, states=states)
        loose = FunctionalDropout() if self.loose_dropout else nullcontext()
        with self.parameters.standing_in(values) as (one.values, model), running(one), loose:
            # The head looks at no ids but to find the end of padding: all are alike, and none is padding.
            answer = model(input_ids=torch.full(states.shape[:2], self.pad + 1, device=self.device))
        numbers = numbers_of(answer, self.head)
        return numbers if self.per_text else numbers[0]


class StatesInPlace(nn.Module):
    """Where the encoder was in a task model: hands the head the states of the current pass."""

    def __init__(self, pooler: nn.Module | None, activation: Any) -> None:
        super().__init__()
        self.pooler, self.activation = pooler, activation

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """What the encoder would have returned."""
        states = current().states
        assert states is not None
        pooled = None
        if self.pooler is not None and self.activation is not None:  # ALBERT: a bare linear layer
            pooled = self.activation(self.pooler(states[:, 0]))
        elif self.pooler is not None:
            pooled = self.pooler(states)
        return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=states, pooler_output=pooled)


def _take_encoder_out(model: PreTrainedModel) -> StatesInPlace:
    """Put a stand-in, with the encoder's pooler, where the encoder was."""
    encoder: Any = model.base_model
    pooler = getattr(encoder, "pooler", None)
    if pooler is not None:
        encoder.pooler = None
    stand_in = StatesInPlace(pooler, getattr(encoder, "pooler_activation", None))
    setattr(model, model.base_model_prefix, stand_in)
    return stand_in


def numbers_of(answer: Any, head: Head) -> Tensor:
    """A task model's numbers; for a span those of start and end side by side."""
    if head.kind == "span":
        return torch.stack([answer.start_logits, answer.end_logits], dim=-1)
    logits: Tensor = answer.logits
    return logits
