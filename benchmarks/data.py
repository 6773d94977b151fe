"""The examples that every system gets, and the model they are for; nothing here is timed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from benchmarks.plan import Request
from bitfit.backbone.load import Backbone, load
from bitfit.backbone.task_model import seeded
from bitfit.data.encode.encoder import tokenize
from bitfit.data.examples import Examples, TaskData
from bitfit.data.options import DataOptions
from bitfit.data.read.source import load_task

DRAW = 20_220_501  # seed of the draw of examples: the same for every system and round


def backbone_of(request: Request) -> Backbone:
    """The embedded model, or the tiny one."""
    if not request.shape.tiny:
        return load()
    return load(request.tiny) if request.tiny else _random_tiny()


def data_of(request: Request, backbone: Backbone) -> TaskData:
    """Training examples for the steps asked for, and validation examples."""
    assert backbone.tokenizer is not None
    folder = Path(request.data_dir) if request.data_dir and request.shape.needs_data else None
    data = tokenize(
        load_task(request.shape.task, options=DataOptions(data_dir=folder, pool="first")), backbone.tokenizer
    )
    train, validation = data.splits["train"], data.splits["validation"]
    if request.epochs is None:
        train = some(train, request.shape.steps * request.shape.batch)
        validation = some(validation, request.shape.validation)
    return replace(data, splits={"train": train, "validation": validation}, notes=())


def some(examples: Examples, number: int) -> Examples:
    """So many examples, drawn by a fixed seed; more than there are: some come again."""
    generator = np.random.default_rng(DRAW)
    rounds = -(-number // len(examples))
    which = np.concatenate([generator.permutation(len(examples)) for _ in range(rounds)])[:number]
    return examples.only(which)


def mean_attended(lengths: NDArray[np.int64]) -> float:
    """How many tokens a token looks at, on average over tokens."""
    return float((lengths**2).sum() / lengths.sum())


def _random_tiny() -> Backbone:
    """BERT-tiny's shape with random weights, over the embedded model's tokenizer (the same 30,522 pieces)."""
    base = load()
    config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    with seeded(0), torch.no_grad():
        model = BertModel(config).eval().requires_grad_(False)
    return Backbone("bert-tiny-random", model.config, base.tokenizer, model, "sha256:" + "0" * 64)
