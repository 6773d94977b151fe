"""Tiny random backbones on disk and deltas over them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

import bitfit
from bitfit.methods.selection import HeadMode

TASK = bitfit.Task("mood", "class", ("text",), "label", ("sad", "glad"), ("accuracy",), 32)
Make = Callable[..., bitfit.Delta]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> bitfit.Backbone:
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    return bitfit.load(str(folder))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> bitfit.Backbone:
    """Its queries, keys and values share one parameter."""
    torch.manual_seed(8)
    config = GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    folder = tmp_path_factory.mktemp("gpt2")
    GPT2Model(config).save_pretrained(folder)
    return bitfit.load(str(folder))


def make_delta(
    backbone: bitfit.Backbone,
    method: str = "bitfit",
    head: HeadMode = "full",
    seed: int = 0,
    task: bitfit.Task = TASK,
) -> bitfit.Delta:
    """A delta with random values over what a method selects."""
    model = backbone.task_model(task.head)
    bitfit.Method.parse(method).insert(model)
    selection = bitfit.select(model, method, head)
    draw = np.random.default_rng(seed)
    values = {
        slot.key: draw.standard_normal(slot.shape if slot.index is None else slot.size).astype(np.float32)
        for slot in selection.slots
    }
    return bitfit.Delta(
        backbone.name,
        backbone.fingerprint,
        method,
        head,
        selection.slots,
        values,
        task,
        {"validation": {"accuracy": 0.75}},
        {"seed": seed, "learning_rate": 1e-3},
        {"torch": "2"},
    )


@pytest.fixture
def delta(bert: bitfit.Backbone) -> bitfit.Delta:
    return make_delta(bert)


@pytest.fixture
def saved(delta: bitfit.Delta, tmp_path: Path) -> Path:
    path = tmp_path / "mood.safetensors"
    delta.save(path)
    return path
