"""A task model that runs many rows at once without padding, or one row with it.

Without padding it is an encoder and one head. Where the table of architectures does not vouch for that, the whole task
model runs over padded batches.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from bitfit.backbone.device import CPU
from bitfit.backbone.heads import Head
from bitfit.backbone.task_model import seeded
from bitfit.runtime.dropout import Draws
from bitfit.runtime.encoder import Encoder, move, packs, pad_of, takes_types
from bitfit.runtime.head_runner import HeadRunner, numbers_of
from bitfit.runtime.layers import reads_from_pass, replace_layers
from bitfit.runtime.layout import Batch
from bitfit.runtime.passes import Parameters, Pass, running


class RowModel:
    """A task model made fast, which it takes apart for good; `packed` says how it runs."""

    def __init__(self, model: PreTrainedModel, head: Head, compute: torch.dtype, device: torch.device = CPU) -> None:
        self.head, self.device, self.packed = head, device, packs(model.config)
        self.width: int = getattr(model.config, "hidden_size", None) or 1  # numbers that a layer hands on for a token
        self.positions_per_token = positions_per_token(model.config)
        self.layers = max(1, getattr(model.config, "num_hidden_layers", 1))
        if self.packed:
            base, prefix = cast(PreTrainedModel, model.base_model), model.base_model_prefix
            self.head_runner = HeadRunner(model, head, compute, device)  # takes the encoder out of the model
            self.encoder = Encoder(base, prefix, compute, device)
        else:
            self.padded = PaddedModel(model, head, compute, device)

    @property
    def in_turn(self) -> tuple[str, ...]:
        """Names of the encoder's layers where each runs once, after the one before it; else empty."""
        return self.encoder.in_turn if self.packed else ()

    @property
    def boundary(self) -> int:
        """Layers below it never change and have no dropout: 0 for none, `layers` for the whole encoder."""
        return self.encoder.boundary if self.packed else 0

    @boundary.setter
    def boundary(self, layer: int) -> None:
        if self.packed:
            self.encoder.boundary = layer

    @property
    def boundary_per_text(self) -> bool:
        """Is what `read` gives one state of each text, and not of each token?"""
        return self.packed and self.boundary == self.layers and self.head_runner.per_text

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter that is frozen here."""
        for parameters in self._parameters:
            yield from parameters.model.parameters()

    def format_of(self, name: str) -> torch.dtype:
        """The number format that a parameter of the task model has here."""
        return self._parameters_with(name)[name].dtype

    def takes_rows(self, names: Iterable[str]) -> bool:
        """Can these parameters of the task model have a value for each row?"""
        return self.packed and all(
            (self.encoder if name in self.encoder.parameters else self.head_runner).takes_rows(name) for name in names
        )

    def layers_below(self, names: Iterable[str]) -> int:
        """How many layers lie below all these parameters of the task model; 0 where it is not known."""
        return self.encoder.layers_below(names) if self.packed else 0

    def answers(self, batch: Batch, values: Mapping[str, Tensor], draws: Draws | None = None) -> Tensor:
        """The head's numbers: (sequences, outputs) for a text, (tokens, outputs) for tags and spans.

        `values` are trained tensors by the task model's names: with a leading row dimension where there are
        several rows, plain where there is one. Without draws there is no dropout.
        """
        for name in values:
            self._parameters_with(name)
        if not self.packed:
            return self.padded.answers(batch, values, draws)
        states = self.encoder.states(batch, values, draws)
        if self.boundary_per_text and batch.states is not None:  # what `read` gave is what the head reads
            return self.head_runner.answers_to(states, batch.layout, values, draws)
        return self.head_runner.answers(states, batch.layout, values, draws)

    def summaries(self, batch: Batch, values: Mapping[str, Tensor], draws: Draws | None = None) -> Tensor:
        """What the head reads of each text, (sequences, size). For a packed model whose encoder trains."""
        return self.head_runner.summary(self.encoder.states(batch, values, draws), batch.layout)

    def read(self, batch: Batch) -> Tensor:
        """The hidden states at the boundary: of each token, (tokens, size), or, behind the last layer, what the head
        reads, for a text one state, (sequences, size)."""
        states = self.encoder.read(batch)
        return self.head_runner.summary(states, batch.layout) if self.boundary_per_text else states

    @property
    def _parameters(self) -> tuple[Parameters, ...]:
        return (self.encoder.parameters, self.head_runner.parameters) if self.packed else (self.padded.parameters,)

    def _parameters_with(self, name: str) -> Parameters:
        holder = next((parameters for parameters in self._parameters if name in parameters), None)
        if holder is None:
            raise KeyError(f"the model has no parameter '{name}'")
        return holder


class PaddedModel:
    """A whole task model over padded batches of one row, as anybody runs it."""

    def __init__(self, model: PreTrainedModel, head: Head, compute: torch.dtype, device: torch.device = CPU) -> None:
        self.head, self.device, self.pad = head, device, pad_of(model.config)
        self.takes_types = takes_types(cast(PreTrainedModel, model.base_model))
        model.config.use_cache = False
        replace_layers(model.base_model, compute)
        replace_layers(model, torch.float32)  # what is left: the head
        move(model, device)
        self.model = model.eval().requires_grad_(False)
        self.parameters = Parameters(model, "", reads_from_pass)

    def answers(self, batch: Batch, values: Mapping[str, Tensor], draws: Draws | None = None) -> Tensor:
        """The head's numbers, as RowModel has them."""
        real = batch.layout.real
        inputs = self._texts(batch, real) if batch.pixels is None else {"pixel_values": batch.pixels}
        one = Pass(batch.layout, draws=draws)
        with ExitStack() as inside:
            # Dropout is also called where no layer stands for it, so the model must be in training and draws from
            # torch's generator, seeded by the row's: meanwhile nobody else may use either.
            one.values, model = inside.enter_context(self.parameters.standing_in(values, alone=draws is not None))
            inside.enter_context(running(one))
            if draws is not None:
                inside.enter_context(seeded(draws.seed(), self.device))
                inside.callback(self.model.eval)
                self.model.train()
            numbers = numbers_of(model(**inputs), self.head)
        return numbers if self.head.per_text else numbers.flatten(0, 1).index_select(0, real)

    def _texts(self, batch: Batch, real: Tensor) -> dict[str, Tensor]:
        """What the task model takes of a batch of texts; `real` are the indices of those that are not padding."""
        shape = (len(batch.layout.lengths), max(batch.layout.lengths))

        def spread(values: Tensor, empty: int) -> Tensor:
            return values.new_full((math.prod(shape),), empty).index_copy_(0, real, values).view(shape)

        inputs = {"input_ids": spread(batch.ids, self.pad), "attention_mask": spread(torch.ones_like(batch.ids), 0)}
        if self.takes_types:
            inputs["token_type_ids"] = spread(batch.types, 0)
        return inputs


def positions_per_token(config: PretrainedConfig) -> int:
    """How many positions the encoder works on for each token: for an image its patches, else 1."""
    patch, size = getattr(config, "patch_size", None), getattr(config, "image_size", None)
    return (size // patch) ** 2 + 1 if isinstance(patch, int) and isinstance(size, int) else 1
