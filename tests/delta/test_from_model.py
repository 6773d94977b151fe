"""A model trained in any loop becomes a delta; one that changed outside its selection is refused."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    default_data_collator,
    pipeline,
)

import bitfit
from bitfit.backbone.load import Backbone
from bitfit.errors import DeltaError, RequestError
from tests.models import inputs, tiny, tiny_backbone, tiny_tokenizer

TASK = bitfit.Task("mood", labels=["sad", "glad"])
METHODS = ["bitfit", "bitfit[b_q]", "layernorm", "full", "random-uniform", "frozen", "houlsby[4]"]


def trained(model: PreTrainedModel, selection: bitfit.Selection, steps: int = 3) -> None:
    """A loop as anybody would write it."""
    selection.freeze()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2, weight_decay=0.0)
    kind = model.config.model_type
    for _ in range(steps):
        loss = model(**inputs(kind, (5, 9, 7)), labels=torch.tensor([0, 1, 1])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("head", ["full", "bias"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_what_another_loop_trained_is_what_the_delta_applies(kind: str, method: str, head: str, tmp_path: Path) -> None:
    if (kind, method, head) == ("gpt2", "frozen", "bias"):
        pytest.skip("its head has no bias, so nothing trains")
    backbone = tiny_backbone(kind)
    model = copy.deepcopy(backbone.task_model(TASK.head, seed=3))
    bitfit.Method.parse(method).insert(model)
    selection = bitfit.select(model, method, head)
    trained(model, selection)
    delta = bitfit.Delta.from_model(model, selection, task=TASK, backbone=backbone)
    delta.save(tmp_path / "mood.safetensors")
    with bitfit.Delta.load(tmp_path / "mood.safetensors").applied(backbone) as applied, torch.no_grad():
        assert torch.equal(applied(**inputs(kind)).logits, model.eval()(**inputs(kind)).logits)
    delta.verify(backbone)


def test_a_model_from_a_checkpoint_becomes_a_delta_of_its_backbone(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    selection = bitfit.select(model, "bitfit")
    trained(model, selection)
    delta = bitfit.Delta.from_model(model, selection, task=TASK, backbone=tmp_path)
    assert delta.size == selection.size
    assert delta.predict(tmp_path, "w5 w6").value in TASK.labels


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone("bert")


@pytest.mark.parametrize("method", ["bitfit", "random-uniform", "frozen"])
def test_a_change_of_one_bit_outside_the_selection_is_named(backbone: Backbone, method: str) -> None:
    name = "bert.encoder.layer.1.output.dense.weight"
    model = copy.deepcopy(backbone.task_model(TASK.head))
    selection = bitfit.select(model, method)
    chosen = {at for slot in selection.slots if slot.name == name and slot.index is not None for at in slot.index}
    with torch.no_grad():
        value = model.get_parameter(name).view(-1)
        at = next(number for number in range(len(value)) if number not in chosen)
        value[at] = torch.nextafter(value[at], torch.tensor(9.0))
    with pytest.raises(DeltaError) as refused:
        bitfit.Delta.from_model(model, selection, task=TASK, backbone=backbone)
    assert f"differs from the backbone in '{name}', which a delta" in str(refused.value)
    assert "Call selection.freeze() before the optimizer is made" in str(refused.value)


def test_a_model_that_shares_its_weights_with_the_backbone_is_refused(backbone: Backbone) -> None:
    model = backbone.task_model(TASK.head)
    with pytest.raises(DeltaError, match=r"shares 'bert\..*training it changed both\. Train a copy\.deepcopy"):
        bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=TASK, backbone=backbone)
    head = bitfit.Delta.from_model(model, bitfit.select(model, "frozen"), task=TASK, backbone=backbone)
    assert head.size == 66


def test_what_no_parameter_holds_is_compared_too(backbone: Backbone) -> None:
    for name, change in (
        (r"bert\.embeddings\.LayerNorm\.eps", lambda model: setattr(model.bert.embeddings.LayerNorm, "eps", 0.1)),
        (r"bert\.embeddings\.position_ids", lambda model: model.bert.embeddings.position_ids.zero_()),
    ):
        model = copy.deepcopy(backbone.task_model(TASK.head))
        selection = bitfit.select(model, "bitfit")
        change(model)
        with pytest.raises(DeltaError, match=rf"differs from the backbone in '{name}', which no delta holds"):
            bitfit.Delta.from_model(model, selection, task=TASK, backbone=backbone)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"selection": "bitfit"}, r"Expected a Selection: bitfit\.select\(model, 'bitfit'\); found 'bitfit'"),
        ({"task": "mood"}, r"Expected a Task: bitfit\.Task\('mood', labels=\[\.\.\.\]\); found 'mood'"),
    ],
)
def test_what_is_no_selection_or_task_is_refused(backbone: Backbone, given: dict[str, Any], words: str) -> None:
    model = copy.deepcopy(backbone.task_model(TASK.head))
    right = {"selection": bitfit.select(model, "bitfit"), "task": TASK, "backbone": backbone}
    with pytest.raises(RequestError, match=words):
        bitfit.Delta.from_model(model, **{**right, **given})


def test_many_changes_are_counted(backbone: Backbone) -> None:
    model = tiny("bert", vocab_size=64)
    other = tiny_backbone("bert").task_model(TASK.head)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    with pytest.raises(DeltaError, match=r"'bert\.embeddings\.word_embeddings\.weight', .* and \d+ more, which"):
        bitfit.Delta.from_model(other, bitfit.select(other, "bitfit"), task=TASK, backbone=backbone)
    with pytest.raises(DeltaError, match=r"Expected a BertForSequenceClassification .*; found a BertModel that"):
        bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=TASK, backbone=backbone)


def test_a_task_with_other_labels_is_refused(backbone: Backbone) -> None:
    model = copy.deepcopy(backbone.task_model(TASK.head))
    three = bitfit.Task("mood", labels=["sad", "glad", "mad"])
    with pytest.raises(DeltaError, match=r"differs in 'classifier\.weight', 'classifier\.bias'\. Check the task's"):
        bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=three, backbone=backbone)


def test_half_precision_is_refused(backbone: Backbone) -> None:
    model = tiny_backbone("bert").task_model(TASK.head).bfloat16()
    with pytest.raises(DeltaError, match="bfloat16; a delta is exact only in float32"):
        bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=TASK, backbone=backbone)


def test_a_pipeline_over_an_applied_delta_names_the_labels(backbone: Backbone) -> None:
    model = copy.deepcopy(backbone.task_model(TASK.head))
    delta = bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=TASK, backbone=backbone)
    before = dict(backbone.config.id2label)
    with delta.applied(backbone) as applied:
        found = pipeline("text-classification", model=applied, tokenizer=backbone.tokenizer)("w5 w6")
    assert found[0]["label"] in TASK.labels
    assert backbone.config.id2label == backbone.model.config.id2label == before


def test_a_delta_answers_by_itself(backbone: Backbone) -> None:
    model = copy.deepcopy(backbone.task_model(TASK.head))
    delta = bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=TASK, backbone=backbone)
    assert delta.predict(backbone, "w5") == bitfit.predict(backbone, delta, "w5")
    assert delta.predict(backbone, ["w5", "w6"]) == bitfit.predict(backbone, delta, ["w5", "w6"])
    with pytest.raises(RequestError, match="Expected a backbone first"):
        delta.predict(["w5"], backbone)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_delta_answers_where_nothing_but_train_was_called(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    code = (
        "import sys, bitfit\n"
        "run = bitfit.train(sys.argv[1], (['w5', 'w6'] * 10, ['no', 'yes'] * 10), config={'epochs': 1})\n"
        "sys.exit(run.delta.predict(sys.argv[1], 'w5').value not in ('no', 'yes'))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_applying_to_a_backbone_names_the_way(backbone: Backbone) -> None:
    model = copy.deepcopy(backbone.task_model(TASK.head))
    delta = bitfit.Delta.from_model(model, bitfit.select(model, "bitfit"), task=TASK, backbone=backbone)
    with pytest.raises(RequestError, match=r"found a Backbone\. Use it as `with delta\.applied\(backbone\) as model"):
        delta.apply(backbone)  # type: ignore[arg-type]


def test_a_task_made_by_hand_takes_lists_and_has_usual_columns() -> None:
    task = bitfit.Task("mood", labels=["sad", "glad"])
    assert task == bitfit.Task("mood", "class", ("text",), "label", ("sad", "glad"))
    assert hash(task) == hash(bitfit.Task("mood", texts="text", labels=("sad", "glad")))  # type: ignore[arg-type]
    assert repr(task) == "Task('mood': class of text, 2 labels)"


def test_new_parameters_after_the_selection_are_the_reason_that_is_given(backbone: Backbone) -> None:
    peft = pytest.importorskip("peft", reason="the method lora needs PEFT")
    model = copy.deepcopy(backbone.task_model(TASK.head))
    selection = bitfit.select(model, "bitfit")
    insertion = bitfit.Method.parse("lora").insert(model)
    with pytest.raises(RequestError, match="carries the new parameters of 'lora', so 'bitfit' finds no untouched"):
        bitfit.Delta.from_model(model, selection, task=TASK, backbone=backbone)
    insertion.undo()
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["query"]), model)
    with pytest.raises(DeltaError, match=r"found a BertFor\S+ that differs in .*self\.query\.weight'"):
        bitfit.Delta.from_model(model, selection, task=TASK, backbone=backbone)


def test_the_head_may_be_another_whatever_the_selection_trains_of_it(backbone: Backbone) -> None:
    model = copy.deepcopy(backbone.task_model(TASK.head))
    selection = bitfit.select(model, "bitfit", "frozen")
    with torch.no_grad():
        model.get_parameter("classifier.weight").add_(1.0)
    delta = bitfit.Delta.from_model(model, selection, task=TASK, backbone=backbone)
    with delta.applied(backbone) as applied:
        assert torch.equal(applied.get_parameter("classifier.weight"), model.get_parameter("classifier.weight"))


@pytest.mark.slow
def test_the_trainer_of_transformers_trains_a_head_on_the_mean_of_tokens(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="the Trainer needs it")
    backbone = tiny_backbone("bert")
    task = bitfit.Task("mood", labels=["sad", "glad"], pool="mean")
    model = copy.deepcopy(backbone.task_model(task.head))
    selection = bitfit.select(model, "bitfit")
    selection.freeze()
    rows = [{"input_ids": [2, number + 5, 3], "labels": number % 2} for number in range(8)]
    settings = TrainingArguments(str(tmp_path), max_steps=2, save_strategy="no", report_to="none", use_cpu=True)
    Trainer(model, settings, train_dataset=rows, data_collator=default_data_collator).train()  # type: ignore[arg-type]
    delta = bitfit.Delta.from_model(model, selection, task=task, backbone=backbone)
    with delta.applied(backbone) as applied, torch.no_grad():
        assert torch.equal(applied(**inputs("bert")).logits, model.eval()(**inputs("bert")).logits)


def test_a_backbone_in_the_place_of_the_trained_model_is_refused() -> None:
    backbone = tiny_backbone("bert")
    selection = bitfit.select(backbone.task_model(TASK.head), "bitfit")
    with pytest.raises(RequestError, match="Expected the trained task model first; found a Backbone"):
        bitfit.Delta.from_model(backbone, selection, task=TASK, backbone=backbone)  # type: ignore[arg-type]
