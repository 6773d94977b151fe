"""A task model that runs many rows at once over batches without padding, or one row over padded ones.

Without padding, the encoder runs over tokens laid end to end, the summary token (or the mean) of each sequence is
picked, and the architecture's own head runs on that. Where the table of architectures does not vouch for it, the
whole task model runs over padded batches. Knows nothing of optimizers or files.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from bitfit.backbone.anatomy import layers_in_turn
from bitfit.backbone.architectures import Architecture, architecture
from bitfit.backbone.device import CPU
from bitfit.backbone.heads import Head
from bitfit.backbone.task_model import seeded
from bitfit.runtime import attention
from bitfit.runtime.joint_qkv import join_qkv
from bitfit.runtime.layer_range import LayerRange
from bitfit.runtime.layers import FastNorm, FunctionalDropout, replace_layers
from bitfit.runtime.layout import Flow, Layout
from bitfit.runtime.linear import FastLinear


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences of one step, those of a row side by side."""

    ids: Tensor  # int64 (tokens,)
    types: Tensor  # int64 (tokens,) token types
    layout: Layout
    pixels: Tensor | None = None  # (sequences, channels, height, width) for images, each a sequence of one token
    states: Tensor | None = None  # what `read` gives for them, where it is known: what lies below is not run then


def packs(config: PretrainedConfig) -> bool:
    """Does a model of this configuration take batches without padding? One that nobody listed does not."""
    known = architecture(config.model_type)
    # A layer dropped at random would be dropped for every row of a pass.
    return known is not None and known.packed and not getattr(config, "layerdrop", 0.0)


class RowModel(nn.Module):
    """A task model made fast, which it takes apart for good; `packed` says how it runs.

    Layers below `boundary` never change and have no dropout: 0 for none, `layers` for the whole encoder.
    """

    outlet: "Outlet | None"
    boundary: int = 0

    def __init__(self, model: PreTrainedModel, head: Head, compute: torch.dtype, device: torch.device = CPU) -> None:
        super().__init__()
        self.flow, self.head, self.packed = Flow(), head, packs(model.config)
        self.device = device
        self.prefix, self.pad = model.base_model_prefix, _pad(model.config)
        self.places = _places(model.config)
        self.width: int = getattr(model.config, "hidden_size", None) or 1  # numbers that a layer hands on for a token
        encoder = model.base_model
        self.takes_types = _takes_types(encoder)
        model.config.use_cache = False
        replace_layers(encoder, self.flow, compute)
        self.encoder: nn.Module | None = encoder if self.packed else None
        # No child of its own beside the model's: functional_call, which puts tensors in by name and takes them out
        # again, would leave them in a module that stands under two names.
        object.__setattr__(self, "outlet", _take_out(model) if self.packed else None)
        replace_layers(model, self.flow, torch.float32)
        self.model = model
        _move(self, device)
        self.layers = max(1, getattr(model.config, "num_hidden_layers", 1))
        self.in_turn = layers_in_turn(encoder) if self.packed else ()
        self.layer_range = LayerRange([encoder.get_submodule(name) for name in self.in_turn], self.flow)
        self.requires_grad_(False)  # what trains is handed in at each pass
        if self.packed:
            _use_packed_attention(encoder, self.flow)
        if self.packed and compute != torch.float32:  # in fp32 the weights are the backbone's own, and are not copied
            join_qkv(encoder)

    def name_here(self, name: str) -> str:
        """Where a parameter of the task model stands in this one."""
        rest = name.removeprefix(self.prefix + ".")
        if not self.packed or rest == name or rest.startswith("pooler"):
            return f"model.{name}"
        return f"encoder.{rest}"

    def format_of(self, name: str) -> torch.dtype:
        """The number format that a parameter of the task model has here."""
        return self.get_parameter(self.name_here(name)).dtype

    def takes_rows(self, names: Iterable[str]) -> bool:
        """Can these parameters of the task model have a value for each row?"""
        return self.packed and all(self._takes_rows(self.name_here(name)) for name in names)

    def _takes_rows(self, name: str) -> bool:
        """Biases can, and a head's weights."""
        place, _, leaf = name.rpartition(".")
        free = leaf == "bias" or place.startswith("model.")
        return free and type(self.get_submodule(place)) in (FastLinear, FastNorm)

    def answers(self, batch: Batch, values: Mapping[str, Tensor]) -> Tensor:
        """The head's numbers: (sequences, outputs) for a text, (tokens, outputs) for tags and spans.

        `values` are trained tensors by the task model's names: with a leading row dimension where there are
        several rows, plain where there is one.
        """
        here = {self.name_here(name): value for name, value in values.items()}
        result: Tensor = functional_call(self, here, (batch,))
        return result

    def forward(self, batch: Batch) -> Tensor:
        return self._packed(batch) if self.packed else self._padded(batch)

    @property
    def _per_text(self) -> bool:
        return self.head.kind in ("class", "number")

    def _padded(self, batch: Batch) -> Tensor:
        """The whole task model, as anybody runs it."""
        self.flow.layout = replace(batch.layout, width=max(batch.layout.lengths))
        real = batch.layout.real
        inputs = self._texts(batch, real) if batch.pixels is None else {"pixel_values": batch.pixels}
        with self._own_draws():
            answer = self.model(**inputs)
        numbers = _numbers(answer, self.head)
        return numbers if self._per_text else numbers.flatten(0, 1).index_select(0, real)

    def _texts(self, batch: Batch, real: Tensor) -> dict[str, Tensor]:
        """What the task model takes of a batch of texts; `real` are the numbers of the places that are not padding."""
        shape = (len(batch.layout.lengths), max(batch.layout.lengths))

        def spread(values: Tensor, empty: int) -> Tensor:
            return values.new_full((math.prod(shape),), empty).index_copy_(0, real, values).view(shape)

        inputs = {"input_ids": spread(batch.ids, self.pad), "attention_mask": spread(torch.ones_like(batch.ids), 0)}
        if self.takes_types:
            inputs["token_type_ids"] = spread(batch.types, 0)
        return inputs

    def _packed(self, batch: Batch) -> Tensor:
        """The encoder over all tokens, then the head on what it reads of them."""
        assert self.outlet is not None
        self.flow.layout = batch.layout
        with self._own_draws():
            states = self._read_by_head(batch)
            self.outlet.states = states[:, None] if self._per_text else states[None]
            # The head looks at no ids but to find the end of padding: all are alike, and none is padding.
            answer = self.model(input_ids=torch.full(self.outlet.states.shape[:2], self.pad + 1, device=self.device))
        self.outlet.states = None
        numbers = _numbers(answer, self.head)
        return numbers if self._per_text else numbers[0]

    def layers_below(self, names: Iterable[str]) -> int:
        """How many layers lie below all these parameters of the task model, so that what they answer never changes.

        `layers` where only the head is named; 0 where it is not known.
        """
        if not self.packed:
            return 0
        return min((self._layer_of(self.name_here(name)) for name in names), default=self.layers)

    def _layer_of(self, name: str) -> int:
        """The layer that a parameter stands in; 0 for embeddings too, the last one for a norm behind it."""
        if name.startswith("model."):
            return self.layers
        place = name.removeprefix("encoder.")
        behind = self._known.outside.get(place.rpartition(".")[0]) == "final_norm"
        inside = [i for i, layer in enumerate(self.in_turn) if place.startswith(f"{layer}.")]
        return next(iter(inside), len(self.in_turn) - 1 if behind and self.in_turn else 0)

    @property
    def boundary_per_text(self) -> bool:
        """Is what `read` gives one state of each text, and not of each token?"""
        return self.boundary == self.layers and self._per_text

    def read(self, batch: Batch) -> Tensor:
        """What lies at the boundary: the states of each token, (tokens, size), that the layer there is given. Behind
        the last layer it is what the head reads, for a text one state of each, (sequences, size)."""
        assert self.boundary, "nothing lies below layer 0 that could be read"
        self.flow.layout = batch.layout
        with self.flow.without_dropout():
            if self.boundary == self.layers:
                states = self._states(batch)
                return self._summary(states, batch.layout) if self._per_text else states
            found: list[Tensor] = []
            with self.layer_range.ended(self.boundary, found):
                self._states(batch)
        return found[0][0, : len(batch.ids)]

    def _read_by_head(self, batch: Batch) -> Tensor:
        """The encoder's last states, (tokens, size), or one of each text, (sequences, size)."""
        if self.boundary == self.layers:
            return self.read(batch) if batch.states is None else batch.states
        known = batch.states
        if known is not None:
            known = functional.pad(known, (0, 0, 0, batch.layout.filler))[None]
        with self.layer_range.begun(self.boundary, known) if self.boundary else nullcontext():
            states = self._states(batch)
        return self._summary(states, batch.layout) if self._per_text else states

    def _states(self, batch: Batch) -> Tensor:
        """The encoder's last states, (tokens, size)."""
        assert self.encoder is not None
        options = {"token_type_ids": batch.types[None]} if self.takes_types else {}
        first = self.pad + 1 if self._known.first_position == "after padding" else 0
        filled = partial(functional.pad, pad=(0, batch.layout.filler))
        options = {name: filled(value) for name, value in options.items()}
        positions = filled(batch.layout.positions[None]) + first
        ids = functional.pad(batch.ids[None], (0, batch.layout.filler), value=self.pad)
        states: Tensor = self.encoder(input_ids=ids, position_ids=positions, **options)[0]
        return states[0, : len(batch.ids)]

    def _summary(self, states: Tensor, layout: Layout) -> Tensor:
        """What the head reads of each sequence, (sequences, size)."""
        starts = layout.fresh(layout.starts)
        # ModernBERT's configuration may ask for the mean where the task does not.
        if "mean" in (self.head.pool, getattr(self.model.config, "classifier_pooling", None)):
            owner = layout.fresh(np.repeat(np.arange(len(layout.lengths)), layout.lengths))
            total = torch.zeros(len(layout.lengths), states.shape[-1], device=self.device)
            return total.index_add(0, owner, states.float()) / layout.fresh(layout.lengths)[:, None]
        return states[starts[1:] - 1 if self._known.summary == "last" else starts[:-1]]

    def _own_draws(self) -> AbstractContextManager[Any]:
        """For dropout that is no layer of its own: the rows' own generators, never torch's as it stands."""
        if self.flow.draws is None or not self.training:
            return nullcontext()
        if self.packed:
            return FunctionalDropout(self.flow) if self._known.loose_dropout else nullcontext()
        return seeded(self.flow.draws.seed(), self.device)

    @property
    def _known(self) -> Architecture:
        known = architecture(self.model.config.model_type)
        assert known is not None
        return known


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


def _move(model: nn.Module, device: torch.device) -> None:
    """Put every tensor of a model on a device. The backbone shares them and stays where it is, so they are replaced;
    one that stands under several names stays one."""
    if device.type == "cpu":
        return
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                there = moved.setdefault(id(parameter), nn.Parameter(parameter.detach().to(device), False))
                module._parameters[leaf] = there  # type: ignore[assignment]
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[leaf] = moved.setdefault(id(buffer), buffer.to(device))


def _take_out(model: PreTrainedModel) -> Outlet:
    """Put an outlet, with the encoder's pooler, where the encoder was."""
    encoder: Any = model.base_model
    pooler = getattr(encoder, "pooler", None)
    if pooler is not None:
        encoder.pooler = None
    outlet = Outlet(pooler, getattr(encoder, "pooler_activation", None))
    setattr(model, model.base_model_prefix, outlet)
    return outlet


def _use_packed_attention(encoder: nn.Module, flow: Flow) -> None:
    """Every module may be the one that asks for attention, so each is given the flow."""
    attention.register()
    config: Any = encoder.config
    config._attn_implementation = attention.NAME
    # It looks at a batch's numbers, for which a GPU's host would wait, and warns of padding, of which there is none.
    object.__setattr__(encoder, "warn_if_padding_and_no_attention_mask", lambda *_: None)
    for module in encoder.modules():
        object.__setattr__(module, "bitfit_flow", flow)


def _numbers(answer: Any, head: Head) -> Tensor:
    """A task model's numbers; for a span those of start and end side by side."""
    if head.kind == "span":
        return torch.stack([answer.start_logits, answer.end_logits], dim=-1)
    logits: Tensor = answer.logits
    return logits


def _places(config: PretrainedConfig) -> int:
    """How many places the encoder works on for each token: for an image its patches, else 1."""
    patch, size = getattr(config, "patch_size", None), getattr(config, "image_size", None)
    return (size // patch) ** 2 + 1 if isinstance(patch, int) and isinstance(size, int) else 1


def _takes_types(encoder: nn.Module) -> bool:
    """Does it tell first texts from second ones?"""
    kinds = getattr(encoder.config, "type_vocab_size", 0) or 0
    return kinds > 1 and "token_type_ids" in signature(encoder.forward).parameters


def _pad(config: PretrainedConfig) -> int:
    """The number of the padding; any will do where there is none, since the mask hides it."""
    return max(0, getattr(config, "pad_token_id", None) or 0)
