"""A task's head: its kind, its parameters, and our own linear one where the architecture has none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

from bitfit.errors import BackboneError, RequestError, nearest

HeadKind = Literal["class", "labels", "number", "tags", "span"]
PER_TEXT: tuple[HeadKind, ...] = ("class", "labels", "number")  # kinds with one answer to a whole text, or image
Pool = Literal["first", "mean"]

# transformers' names of its losses, by kind of task.
_LOSSES: dict[HeadKind, str] = {
    "class": "ForSequenceClassification",
    "labels": "ForSequenceClassification",
    "number": "ForSequenceClassification",
    "tags": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Head:
    """The kind of answer, how many numbers it has, and which token (or the mean of all) gives it."""

    kind: HeadKind
    outputs: int  # labels of a class, of any number of them, or of tags; 1 for a number; 2 for a span (start, end)
    pool: Pool | None = None  # texts only; "first" is the architecture's own summary token; None: as the backbone asks

    def __post_init__(self) -> None:
        if self.kind not in get_args(HeadKind):
            raise RequestError(f"There is no kind {self.kind!r:.80}. {nearest(str(self.kind), get_args(HeadKind))}")
        if self.outputs < 1:
            raise RequestError(f"Expected a head of 1 output or more; found {self.outputs}.")

    @property
    def per_text(self) -> bool:
        """Does it answer once for each text, and not for each token?"""
        return self.kind in PER_TEXT


def head_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Parameters that are not the pretrained encoder's: the head that a task model adds, in order."""
    prefix = model.base_model_prefix + "."
    if model.base_model is model:
        return ()
    return tuple(name for name, _ in model.named_parameters() if not name.startswith(prefix))


def cancelled_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Parameters of a head whose gradient is exactly zero: the bias of a span's scores.

    The scores of all positions of a window are compared by softmax, so the same number added to each cancels.
    """
    if not type(model).__name__.endswith(("ForQuestionAnswering", "WithSpanHead")):
        return ()
    return tuple(name for name in head_names(model)[-1:] if name.endswith(".bias"))


class OwnTask:
    """Dropout and one linear layer on the base model's last hidden states: of the mean, or of each token.

    Mixed with the architecture's own pretrained class, whose initialisation and attention settings it keeps.
    """

    head: Head
    accepts_loss_kwargs = False  # transformers' Trainer need not tell it how many examples a loss is the mean of

    def __init__(self, config: PretrainedConfig, base: type[PreTrainedModel], head: Head) -> None:
        cast(Any, super()).__init__(config)
        model = cast(PreTrainedModel, self)
        cast(Any, model).num_labels = head.outputs  # nn.Module would have modules and tensors alone
        self.head = head
        cast(Any, model).loss_type = _LOSSES[head.kind]
        setattr(self, model.base_model_prefix, base(config))
        self.dropout = nn.Dropout(_dropout(config))
        self.classifier = nn.Linear(_width(config), head.outputs)
        model.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **inputs: Any,
    ) -> SequenceClassifierOutput | TokenClassifierOutput | QuestionAnsweringModelOutput:
        """Logits, and the loss where what is right is given; the other inputs go to the base model as they are."""
        # By name, since transformers' Trainer drops the columns that no parameter is named after.
        named = (input_ids, attention_mask, token_type_ids)
        inputs |= {name: value for name, value in zip(_INPUTS, named, strict=True) if value is not None}
        hidden = cast(PreTrainedModel, self).base_model(**inputs).last_hidden_state
        if self.head.kind == "span":
            return self._span(self.classifier(self.dropout(hidden)), start_positions, end_positions)
        if self.head.kind == "tags":
            logits = self.classifier(self.dropout(hidden))
            loss = None if labels is None else self._loss(logits, labels, self._config)
            return TokenClassifierOutput(loss=loss, logits=logits)
        logits = self.classifier(self.dropout(mean_over_tokens(hidden, attention_mask)))
        loss = None if labels is None else self._loss(labels=labels, pooled_logits=logits, config=self._config)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _span(self, logits: Tensor, first: Tensor | None, last: Tensor | None) -> QuestionAnsweringModelOutput:
        start, end = logits.unbind(-1)
        loss = None if first is None or last is None else self._loss(start, end, first, last)
        return QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end)

    @property
    def _config(self) -> PretrainedConfig:
        return cast(PreTrainedModel, self).config

    @property
    def _loss(self) -> Callable[..., Tensor]:
        """transformers' own loss for this kind of task."""
        return cast(Callable[..., Tensor], cast(PreTrainedModel, self).loss_function)


def mean_over_tokens(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of (batch, tokens, width) over real tokens; mask (batch, tokens) is 1 at real ones."""
    if mask is None:
        return hidden.mean(1)
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def own_task_model(config: PretrainedConfig, head: Head) -> PreTrainedModel:
    """Our head on the architecture's encoder, inside a class of its family so that nothing else changes."""
    base: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None) or MODEL_MAPPING.get(type(config), None)
    family = base.__mro__[1] if isinstance(base, type) else None
    if family is None or not issubclass(family, PreTrainedModel):
        raise BackboneError(f"The architecture '{config.model_type}' has no base model that a head could sit on.")
    kind = type(f"{base.__name__}With{head.kind.capitalize()}Head", (OwnTask, family), {})
    return cast(PreTrainedModel, kind(config, base, head).to(torch.float32))


def _width(config: PretrainedConfig) -> int:
    # OPT may make its answers narrower than its layers.
    for name in ("word_embed_proj_dim", "hidden_size", "d_model", "n_embd", "dim"):
        if isinstance(width := getattr(config, name, None), int):
            return width
    raise BackboneError(f"The configuration of '{config.model_type}' does not say how wide its outputs are.")


def _dropout(config: PretrainedConfig) -> float:
    for name in ("classifier_dropout", "hidden_dropout_prob", "dropout", "dropout_rate"):
        if isinstance(rate := getattr(config, name, None), float):
            return rate
    return 0.0
