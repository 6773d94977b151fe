"""A frozen encoder for many rows at once, and the hidden states between its layers.

The model's own code still runs around the layers, so masks, rotary positions and last norms are made as ever.
"""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel

from bitfit.backbone.anatomy import layers_in_turn
from bitfit.backbone.architectures import Architecture, architecture
from bitfit.backbone.device import CPU
from bitfit.runtime import attention
from bitfit.runtime.dropout import Draws
from bitfit.runtime.joint_qkv import join_qkv
from bitfit.runtime.layers import FastNorm, FunctionalDropout, reads_from_pass, replace_layers
from bitfit.runtime.layout import Batch
from bitfit.runtime.linear import FastLinear
from bitfit.runtime.passes import LayerSpan, Parameters, Pass, current, running
from bitfit.runtime.sites import LEAVES


def packs(config: PretrainedConfig) -> bool:
    """Does a model of this configuration take batches without padding? One that nobody listed does not."""
    known = architecture(config.model_type)
    # A layer dropped at random would be dropped for every row of a pass.
    return known is not None and known.packed and not getattr(config, "layerdrop", 0.0)


class Encoder:
    """A base model made fast, which it changes for good. Values are named as in a task model, under `prefix`.

    Layers below `boundary` never change and have no dropout: 0 for none, `layers` for the whole encoder.
    """

    boundary: int = 0

    def __init__(self, model: PreTrainedModel, prefix: str, compute: torch.dtype, device: torch.device = CPU) -> None:
        self.device, self.prefix, self.pad = device, prefix, pad_of(model.config)
        self.known = _listed(model.config)
        self.takes_types = takes_types(model)
        self.layers = max(1, getattr(model.config, "num_hidden_layers", 1))
        if getattr(model, "pooler", None) is not None:
            cast(Any, model).pooler = None  # which reads one state of a text: the head has it
        # The order matters: layers are swapped first, so that only what they hold moves to the device, and weights are
        # joined where they will be used. Names are taken down last, of the parameters that are there then.
        replace_layers(model, compute)
        move(model, device)
        model.requires_grad_(False)  # what trains is handed in at each pass
        if compute != torch.float32:  # in fp32 the weights are the backbone's own, and are not copied
            join_qkv(model)
        _use_packed_attention(model)
        self.in_turn = layers_in_turn(model)
        for number, name in enumerate(self.in_turn):
            _follow_span(model.get_submodule(name), number)
        self.model = model.train()  # a pass without draws has no dropout whatever this says
        for module in model.modules():
            if hasattr(module, "layerdrop"):  # a stack that would draw for each layer, at a rate of 0 too
                module.training = False
        self.parameters = Parameters(model, prefix, reads_from_pass)

    def takes_rows(self, name: str) -> bool:
        """Can this parameter have a value for each row? Biases, norms and what `sites` puts in can."""
        module, leaf = self.parameters.modules[name]
        return leaf in LEAVES or isinstance(module, FastNorm) or (leaf == "bias" and isinstance(module, FastLinear))

    def states(self, batch: Batch, values: Mapping[str, Tensor], draws: Draws | None = None) -> Tensor:
        """The last hidden states, (tokens, size). Values have a leading dimension where there are several rows."""
        if self.boundary == self.layers:
            return self._run(batch, values, Pass(batch.layout)) if batch.states is None else batch.states
        if not self.boundary:
            return self._run(batch, values, Pass(batch.layout, draws=draws))
        known = batch.states
        if known is not None:
            known = functional.pad(known, (0, 0, 0, batch.layout.filler))[None]
        return self._run(batch, values, Pass(batch.layout, span=LayerSpan(self.boundary, draws, known)))

    def read(self, batch: Batch) -> Tensor:
        """The hidden states that the layer at the boundary is given, or the last ones: (tokens, size)."""
        assert self.boundary, "nothing lies below layer 0 that could be read"
        if self.boundary == self.layers:
            return self._run(batch, {}, Pass(batch.layout))
        span = LayerSpan(end=self.boundary)
        self._run(batch, {}, Pass(batch.layout, span=span))
        assert span.end_states is not None
        return span.end_states[0, : len(batch.ids)]

    def layers_below(self, names: Iterable[str]) -> int:
        """How many layers lie below all these parameters, so that their hidden states never change.

        `layers` where none of them is the encoder's; 0 where it is not known.
        """
        return min((self._layer_of(name) for name in names if name in self.parameters), default=self.layers)

    def _layer_of(self, name: str) -> int:
        """The layer that a parameter is in; 0 for embeddings too, the last one for a norm behind it."""
        path = name.removeprefix(f"{self.prefix}.")
        behind = self.known.outside.get(path.rpartition(".")[0]) == "final_norm"
        inside = [i for i, layer in enumerate(self.in_turn) if path.startswith(f"{layer}.")]
        return next(iter(inside), len(self.in_turn) - 1 if behind and self.in_turn else 0)

    def _run(self, batch: Batch, values: Mapping[str, Tensor], one: Pass) -> Tensor:
        one.segments = batch.layout.tokens
        loose = FunctionalDropout() if self.known.loose_dropout else nullcontext()
        with self.parameters.standing_in(values) as (one.values, model), running(one), loose:
            states: Tensor = model(**self._inputs(batch))[0]
        return states[0, : len(batch.ids)]

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        """A batch as one long sequence, filled up to a round length."""
        filled = partial(functional.pad, pad=(0, batch.layout.filler))
        first = self.pad + 1 if self.known.first_position == "after padding" else 0
        inputs = {
            "input_ids": filled(batch.ids[None], value=self.pad),
            "position_ids": filled(batch.layout.positions[None]) + first,
        }
        return inputs | ({"token_type_ids": filled(batch.types[None])} if self.takes_types else {})


def _follow_span(layer: nn.Module, number: int) -> None:
    """Make a layer do what the pass's span says: run, or hand on what it is given."""
    run = layer.forward

    def forward(hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        now = current()
        span = now.span
        if span is None:
            return run(hidden_states, *args, **options)
        if span.end is not None and number >= span.end:
            span.end_states = hidden_states if number == span.end else span.end_states
            return hidden_states
        if number < span.begin and span.states is not None:
            return hidden_states
        if number == span.begin and span.end is None:
            now.draws = span.draws
            hidden_states = hidden_states if span.states is None else span.states
        return run(hidden_states, *args, **options)

    layer.__dict__["forward"] = forward


def move(model: nn.Module, device: torch.device) -> None:
    """Put every tensor of a model on a device. The backbone shares them and stays where it is, so they are replaced;
    one that has several names stays one."""
    if device.type == "cpu":
        return
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                on_device = moved.setdefault(id(parameter), nn.Parameter(parameter.detach().to(device), False))
                module._parameters[leaf] = on_device  # type: ignore[assignment]
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[leaf] = moved.setdefault(id(buffer), buffer.to(device))


def _use_packed_attention(model: PreTrainedModel) -> None:
    attention.register()
    config: Any = model.config
    config._attn_implementation = attention.NAME
    config.use_cache = False
    # It looks at a batch's numbers, for which a GPU's host would wait, and warns of padding, of which there is none.
    object.__setattr__(model, "warn_if_padding_and_no_attention_mask", lambda *_: None)


def _listed(config: PretrainedConfig) -> Architecture:
    known = architecture(config.model_type)
    assert known is not None
    return known


def takes_types(model: PreTrainedModel) -> bool:
    """Does a base model tell first texts from second ones?"""
    kinds = getattr(model.config, "type_vocab_size", 0) or 0
    return kinds > 1 and "token_type_ids" in signature(model.forward).parameters


def pad_of(config: PretrainedConfig) -> int:
    """The number of the padding; any will do where there is none, since the mask hides it."""
    return max(0, getattr(config, "pad_token_id", None) or 0)
