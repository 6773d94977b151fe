"""What a head reads where nobody says: as the model's folder has it."""

import json
import shutil
import socket
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

import bitfit
from bitfit.backbone.heads import Head
from bitfit.backbone.pooling import made_for
from bitfit.data.encode.encoder import tokenize
from bitfit.data.read.source import load_task
from bitfit.data.task import Task
from bitfit.watcher import Watcher
from tests.models import tiny, tiny_backbone, tiny_tokenizer

OLDER = "sentence_transformers.models.Pooling"
NEWER = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"


def with_chain(folder: Path, settings: object, kind: str = OLDER) -> Path:
    """A folder that says how its sentences are made, as sentence-transformers writes it."""
    (folder / "1_Pooling").mkdir(parents=True)
    chain = [{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": kind}]
    (folder / "modules.json").write_text(json.dumps(chain))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "pool"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_lasttoken": True}, "first"),
        ({"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode_max_tokens": True}, "first"),  # a head reads no maximum
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "first"),  # nor two side by side
        ({}, "first"),
        (["mean"], "first"),
    ],
)
@pytest.mark.parametrize("kind", [OLDER, NEWER])
def test_a_folder_that_says_how_its_sentences_are_made_is_believed(
    tmp_path: Path, settings: object, pool: str, kind: str
) -> None:
    assert made_for(with_chain(tmp_path, settings, kind)) == pool


@pytest.mark.parametrize("chain", ["{", "[]", "{}", "[3]", '[{"type": "x.Pooling"}]', '[{"type": 3, "path": "a"}]'])
def test_a_chain_that_cannot_be_read_says_nothing(tmp_path: Path, chain: str) -> None:
    (tmp_path / "modules.json").write_text(chain)
    assert made_for(tmp_path) == "first"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model made for the mean."""
    tiny("bert").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return with_chain(tmp_path / "model", {"pooling_mode_mean_tokens": True})


def test_a_head_reads_what_the_backbone_was_made_for_and_the_delta_says_it(folder: Path) -> None:
    backbone = bitfit.load(folder)
    assert type(backbone.task_model(Head("class", 2))).__name__ == "BertModelWithClassHead"
    assert type(backbone.task_model(Head("tags", 2))).__name__ == "BertForTokenClassification"
    data = (["a b", "c d"] * 10, ["p", "n"] * 10)
    assert bitfit.train(backbone, data, epochs=1).delta.task.pool == "mean"
    delta = bitfit.train(backbone, data, epochs=1, options={"pool": "first"}).delta
    assert delta.task.pool == "first"
    assert bitfit.Delta.from_bytes(delta.to_bytes()).task.pool == "first"


def test_a_default_other_than_the_architectures_own_is_said(folder: Path) -> None:
    said: list[str] = []

    class Listener(Watcher):
        def note(self, text: str) -> None:
            said.append(text)

    watcher = Listener()
    data = (["a b", "c d"] * 10, ["p", "n"] * 10)
    bitfit.train(folder, data, epochs=1, watcher=watcher)
    assert f"in-memory: the head reads the mean of a text's tokens, for which '{folder}' was made" in said
    said.clear()
    bitfit.train(folder, data, epochs=1, watcher=watcher, options={"pool": "mean"})
    assert not any("reads the" in note for note in said)


def test_without_a_word_it_is_the_architectures_own() -> None:
    delta = bitfit.train(tiny_backbone("bert"), (["a b", "c d"] * 10, ["p", "n"] * 10), epochs=1).delta
    assert delta.task.pool == "first"


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_a_model_of_another_loop_says_itself_what_its_head_reads(pool: str) -> None:
    backbone, task = tiny_backbone("bert"), Task("mood", labels=["sad", "glad"])
    model = deepcopy(backbone.task_model(replace(task.head, pool=pool)))
    delta = bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=task, backbone=backbone)
    assert delta.task.pool == pool


def test_a_task_written_before_tasks_could_leave_it_open_reads_the_first() -> None:
    assert Task.from_json({"name": "a", "kind": "number", "texts": ["text"], "label": "label"}).pool == "first"


def test_a_copy_of_the_hub_is_asked_for_its_chain_and_remembers_that_it_has_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked"))
    copy = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(folder, copy / "snapshots" / ("0" * 40))
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("0" * 40)
    assert bitfit.load("somebody/tiny").pool == "mean"
    (copy / "snapshots" / ("0" * 40) / "modules.json").unlink()
    assert bitfit.load("somebody/tiny").pool == "first"
    monkeypatch.setattr("bitfit.backbone.pooling.hub_answers", lambda: True)
    (copy / ".no_exist" / ("0" * 40)).mkdir(parents=True)
    (copy / ".no_exist" / ("0" * 40) / "modules.json").touch()
    assert bitfit.load("somebody/tiny").pool == "first"


def test_the_embedded_model_reads_the_mean() -> None:
    assert bitfit.load().pool == "mean"


def test_examples_that_are_tokenized_already_get_the_backbones_pooling(folder: Path) -> None:
    backbone = bitfit.load(folder)
    table = load_task((["a b", "c d"] * 10, ["p", "n"] * 10))
    assert table.task.pool is None
    run = bitfit.train(backbone, tokenize(table, backbone.reader), epochs=1)
    same = bitfit.train(backbone, table, epochs=1)
    assert run.delta.task.pool == "mean"
    assert all((value == same.delta.values[name]).all() for name, value in run.delta.values.items())
