"""A task model that runs many rows at once over batches without padding, whatever the architecture.

It takes apart a transformers task model: the encoder runs over tokens laid end to end, the summary token (or the
mean) of each sequence is picked, and the architecture's own head runs on that. An architecture that cannot is run
on padded batches. Knows nothing of optimizers or files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from bitfit.backbone import attention
from bitfit.backbone.frozen import FastLinear, FastNorm, quicken
from bitfit.backbone.heads import Head
from bitfit.backbone.rows import Flow, Layout


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences of one step, those of a row side by side."""

    ids: Tensor  # int64 (tokens,)
    types: Tensor  # int64 (tokens,) token types
    layout: Layout


class RowModel(nn.Module):
    """A task model made fast; `names` are the task model's own parameter names."""

    def __init__(self, model: PreTrainedModel, head: Head, compute: torch.dtype, packed: bool) -> None:
        super().__init__()
        self.flow, self.head, self.packed = Flow(), head, packed
        self.prefix = model.base_model_prefix
        config = model.config
        self.pad = _first_known(config, "pad_token_id", default=0)
        self.filler = _first_known(config, "eos_token_id", "sep_token_id", default=self.pad + 1)
        self.first_position = self.pad + 1 if config.model_type in COUNT_FROM_PADDING else 0
        self.summary_last = config.model_type in SUMMARY_LAST
        encoder = getattr(model, self.prefix)
        quicken(encoder, self.flow, compute)
        self.takes_types = (
            getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in signature(encoder.forward).parameters
        )
        self.model, self.encoder = model, encoder
        pooler = getattr(encoder, "pooler", None)
        if pooler is not None:
            encoder.pooler = None
        setattr(model, self.prefix, Outlet(pooler, getattr(encoder, "pooler_activation", None)))
        quicken(model, self.flow, torch.float32)
        self.requires_grad_(False)  # what trains is handed in at each pass
        if packed:
            attention.register()
            _use_packed_attention(encoder, self.flow)

    def name_here(self, name: str) -> str:
        """Where a parameter of the task model stands in this one."""
        rest = name.removeprefix(self.prefix + ".")
        outside = rest == name or rest.startswith("pooler")
        return f"model.{name}" if outside else f"encoder.{rest}"

    def takes_rows(self, names: Iterable[str]) -> bool:
        """Can these parameters of the task model have a value for each row?"""
        places = [self.name_here(name).rpartition(".") for name in names]
        return self.packed and all(
            (leaf == "bias" or place.startswith("model.")) and type(self.get_submodule(place)) in (FastLinear, FastNorm)
            for place, _, leaf in places
        )

    def answers(self, batch: Batch, values: Mapping[str, Tensor]) -> Tensor:
        """The head's numbers: (sequences, outputs) for a text, (tokens, outputs) for tags and spans.

        `values` are trained tensors by the task model's names: with a leading row dimension where there are
        several rows, plain where there is one.
        """
        here = {self.name_here(name): value for name, value in values.items()}
        result: Tensor = functional_call(self, here, (batch,))
        return result

    def forward(self, batch: Batch) -> Tensor:
        self.flow.layout = batch.layout
        states = self._packed_states(batch) if self.packed else self._padded_states(batch)
        outlet = getattr(self.model, self.prefix)
        if self.head.kind in ("class", "number"):
            outlet.states = self._summary(states, batch.layout)[:, None]
        else:
            outlet.states = states[None]
        ids = torch.full(outlet.states.shape[:2], self.filler)
        answer = self.model(input_ids=ids)
        outlet.states = None
        if self.head.kind == "span":
            return torch.stack([answer.start_logits[0], answer.end_logits[0]], dim=-1)
        logits: Tensor = answer.logits
        return logits if self.head.kind in ("class", "number") else logits[0]

    def _packed_states(self, batch: Batch) -> Tensor:
        """The encoder's last states, (tokens, size)."""
        options = {"token_type_ids": batch.types[None]} if self.takes_types else {}
        position = batch.layout.positions[None] + self.first_position
        states: Tensor = self.encoder(input_ids=batch.ids[None], position_ids=position, **options)[0]
        return states[0]

    def _padded_states(self, batch: Batch) -> Tensor:
        """The same through a padded batch."""
        layout = batch.layout
        width = max(layout.lengths)
        real = torch.arange(width)[None, :] < torch.tensor(layout.lengths)[:, None]
        ids = torch.full(real.shape, self.pad).masked_scatter_(real, batch.ids)
        types = torch.zeros(real.shape, dtype=torch.long).masked_scatter_(real, batch.types)
        self.flow.layout = Layout(layout.lengths, layout.counts, width)
        options = {"token_type_ids": types} if self.takes_types else {}
        states: Tensor = self.encoder(input_ids=ids, attention_mask=real.long(), **options)[0]
        self.flow.layout = layout
        return states[real]

    def _summary(self, states: Tensor, layout: Layout) -> Tensor:
        """What the head reads of each sequence, (sequences, size)."""
        starts = torch.tensor(layout.starts)
        if self.head.pool == "mean":
            owner = torch.repeat_interleave(torch.arange(len(layout.lengths)), torch.tensor(layout.lengths))
            total = torch.zeros(len(layout.lengths), states.shape[-1]).index_add(0, owner, states.float())
            return total / torch.tensor(layout.lengths)[:, None]
        return states[starts[1:] - 1 if self.summary_last else starts[:-1]]


COUNT_FROM_PADDING = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
}  # positions begin after the padding's number
SUMMARY_LAST = {
    "gpt2",
    "opt",
    "gpt_neox",
    "bloom",
    "qwen2",
    "llama",
}  # causal models answer at the last token


class Outlet(nn.Module):
    """Stands where the encoder stood in a task model, and hands the head the states it is given."""

    def __init__(self, pooler: nn.Module | None, activation: Any) -> None:
        super().__init__()
        self.pooler, self.activation = pooler, activation
        self.states: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """What the encoder would have returned."""
        assert self.states is not None
        pooled = None
        if self.pooler is not None and self.activation is not None:  # ALBERT: a bare linear layer
            pooled = self.activation(self.pooler(self.states[:, 0]))
        elif self.pooler is not None:
            pooled = self.pooler(self.states)
        return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=self.states, pooler_output=pooled)


def _use_packed_attention(encoder: nn.Module, flow: Flow) -> None:
    """Every module may be the one that asks for attention, so each is given the flow."""
    config: Any = encoder.config
    config._attn_implementation = attention.NAME
    for module in encoder.modules():
        object.__setattr__(module, "bitfit_flow", flow)


def _first_known(config: Any, *names: str, default: int) -> int:
    """The first of these settings that is a number."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return default
