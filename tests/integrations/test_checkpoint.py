"""A merged folder is an ordinary checkpoint that predicts what the delta predicts."""

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    dynamic_module_utils,
    pipeline,
)

import bitfit
from bitfit.backbone.fingerprint import fingerprint
from bitfit.backbone.heads import Pool
from bitfit.errors import DeltaError, RequestError
from bitfit.inference.predictor import Predictor
from bitfit.integrations import modeling_mean
from bitfit.integrations.checkpoint import merge
from tests.delta.conftest import make_delta
from tests.models import ARCHITECTURES, inputs, tiny_backbone

pytestmark = pytest.mark.slow  # together: seconds that `make quick` has not


@pytest.mark.parametrize("method", ["bitfit", "bitfit[b_q]@0", "full", "frozen"])
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_a_merged_checkpoint_predicts_the_same_through_transformers_alone(
    model: str, method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    backbone = request.getfixturevalue(model)
    delta = make_delta(backbone, method)
    folder = merge(delta, backbone, tmp_path / "merged")
    ids = torch.randint(3, 50, (4, 7))
    ordinary = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found = ordinary(input_ids=ids).logits
        with delta.applied(backbone) as trained:
            torch.testing.assert_close(found, trained(input_ids=ids).logits, rtol=0, atol=1e-5)
    assert ordinary.config.id2label == {0: "sad", 1: "glad"}
    assert fingerprint(backbone.model) == backbone.fingerprint
    assert "glad" not in str(backbone.config)


def test_a_folder_that_is_there_is_left_alone(bert: bitfit.Backbone, delta: bitfit.Delta, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="exists already"):
        merge(delta, bert, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_writing_fails(bert: bitfit.Backbone, delta: bitfit.Delta, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be written"):
        merge(delta, bert, tmp_path / "no" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_our_own_head_on_each_token_is_refused_with_the_way_out(tmp_path: Path) -> None:
    backbone = tiny_backbone("opt")  # which has no class of its own for tags: there is no other way
    tags = bitfit.Task("pos", "tags", ("words",), "tags", ("A", "B"))
    with pytest.raises(DeltaError, match="'opt' has none for the kind 'tags': keep the delta file"):
        merge(make_delta(backbone, task=tags), backbone, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_merged_tokenizer_cuts_texts_where_the_task_cuts_them(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    task = bitfit.Task("mood", "class", labels=["sad", "glad"], pool="first", max_length=12)
    delta = make_delta(backbone, task=task)
    classify = pipeline("text-classification", str(merge(delta, backbone, tmp_path / "merged")), top_k=None)
    assert_same_scores(classify, delta, backbone)
    assert backbone.reader.model_max_length > 12


@pytest.mark.parametrize("model", ["bert", "roberta", "distilbert", "electra", "bart", "gpt2"])
def test_a_merged_head_is_as_sure_as_predict(model: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model)
    delta = make_delta(backbone, task=bitfit.Task("mood", "class", labels=["sad", "glad"], pool="first", max_length=12))
    delta = replace(delta, settings={**delta.settings, "calibration": {"temperature": 2.5}})
    before = delta.to_bytes()
    classify = pipeline("text-classification", str(merge(delta, backbone, tmp_path / "merged")), top_k=None)
    assert_same_scores(classify, delta, backbone)
    assert delta.to_bytes() == before
    assert fingerprint(backbone.model) == backbone.fingerprint


# ---------------------------------------------------------------------- a head on the mean


@pytest.fixture(autouse=True, scope="module")
def _own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Transformers copies code that was allowed into a cache: here into one of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr(sys, "path", [*sys.path])
        yield


MEAN = bitfit.Task("mood", "class", labels=["sad", "glad", "calm"], pool="mean", max_length=12)
RATING = bitfit.Task("rating", "number", pool="mean", max_length=12)
LABELS = bitfit.Task("moods", "labels", labels=["sad", "glad", "calm"], pool="mean", max_length=12)
TEXTS = ["w4 w5 w6", "w9", " ".join(f"w{number}" for number in range(10, 50)), "w7 w8"]  # one longer than 12


def allowed(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    return model.eval()


def assert_same_scores(classify: Any, delta: bitfit.Delta, backbone: bitfit.Backbone, texts: Any = TEXTS) -> None:
    """What a pipeline says is what `predict` says."""
    answers = Predictor(backbone, delta, precision="fp32")(texts)
    for found, answer in zip(classify(texts, truncation=True), answers, strict=True):
        scores = {each["label"]: each["score"] for each in found}
        assert scores == pytest.approx(answer.scores or {"LABEL_0": answer.value}, abs=1e-5)


def chained(folder: Path, texts: list[str]) -> torch.Tensor:
    """What sentence-transformers computes of such a folder, by its files alone."""
    transformer, pooling, dense = (folder / module["path"] for module in read(folder / "modules.json"))
    inputs = AutoTokenizer.from_pretrained(transformer)(texts, padding=True, truncation=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(transformer).eval()(**inputs).last_hidden_state
    on = [mode for mode, chosen in read(pooling / "config.json").items() if chosen is True]
    assert on == ["pooling_mode_mean_tokens"]
    mask = inputs["attention_mask"][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    settings, weights = read(dense / "config.json"), load_file(dense / "model.safetensors")
    assert settings["activation_function"] == "torch.nn.modules.linear.Identity"
    assert (settings["out_features"], settings["in_features"]) == weights["linear.weight"].shape
    return mean @ weights["linear.weight"].T + weights["linear.bias"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", [name for name in ARCHITECTURES if name != "vit"])
def test_a_head_on_the_mean_gives_the_same_logits_where_its_file_is_allowed(model: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model)
    delta = make_delta(backbone, "full", task=MEAN)
    batch = inputs(model, (9, 5, 1))
    with torch.no_grad(), delta.applied(backbone) as trained:
        expected = trained(**batch).logits
        found = allowed(merge(delta, backbone, tmp_path / "merged"))(**batch).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert fingerprint(backbone.model) == backbone.fingerprint


@pytest.mark.parametrize("task", [MEAN, RATING, LABELS], ids=["class", "number", "labels"])
def test_a_pipeline_answers_as_predict_does(task: bitfit.Task, tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    delta = make_delta(backbone, task=task)
    folder = str(merge(delta, backbone, tmp_path / "merged"))
    classify = pipeline("text-classification", folder, trust_remote_code=True, top_k=None)
    assert_same_scores(classify, delta, backbone)


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_labels_are_a_multi_label_classifier_with_their_thresholds(pool: Pool, tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    delta = make_delta(backbone, task=replace(LABELS, pool=pool))
    thresholds = [0.25, 0.5, 0.75]
    delta = replace(delta, settings={**delta.settings, "calibration": {"thresholds": thresholds}})
    folder = merge(delta, backbone, tmp_path / "merged")
    model = allowed(folder)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.thresholds == dict(zip(LABELS.labels, thresholds, strict=True))
    batch, labels = inputs("bert", (9, 5)), torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    outputs = model(**batch, labels=labels)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)
    torch.testing.assert_close(outputs.loss, wanted)
    classify = pipeline("text-classification", str(folder), trust_remote_code=pool == "mean", top_k=None)
    assert_same_scores(classify, delta, backbone)


@pytest.mark.parametrize("task", [MEAN, RATING], ids=["class", "number"])
def test_the_chain_of_modules_gives_the_same_logits(task: bitfit.Task, tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    delta = make_delta(backbone, task=task)
    logits = chained(merge(delta, backbone, tmp_path / "merged"), TEXTS)
    answers = Predictor(backbone, delta, precision="fp32")(TEXTS)
    if task is RATING:
        assert logits.flatten().tolist() == pytest.approx([answer.value for answer in answers], abs=1e-5)
        return
    for shares, answer in zip(logits.softmax(1).tolist(), answers, strict=True):
        assert dict(zip(task.labels, shares, strict=True)) == pytest.approx(answer.scores, abs=1e-5)


def test_sentence_transformers_reads_the_chain(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    backbone = tiny_backbone("bert")
    folder = merge(make_delta(backbone, task=MEAN), backbone, tmp_path / "merged")
    logits = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(logits, chained(folder, TEXTS), rtol=0, atol=1e-5)


def test_where_its_file_is_not_allowed_the_folder_is_refused_and_never_read_as_another_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BERT's own class would read the same weights on its first token."""
    monkeypatch.setattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0)  # no question on standard input
    backbone = tiny_backbone("bert")
    folder = merge(make_delta(backbone, task=MEAN), backbone, tmp_path / "merged")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)


def test_the_encoder_of_a_merged_folder_is_a_backbone(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    delta = make_delta(backbone, task=MEAN)
    again = bitfit.load(merge(delta, backbone, tmp_path / "merged") / "0_Transformer")
    assert again.reader("w4 w5")["input_ids"] == backbone.reader("w4 w5")["input_ids"]
    with delta.applied(backbone) as trained:
        torch.testing.assert_close(
            dict(again.model.state_dict()), dict(trained.base_model.state_dict()), rtol=0, atol=0
        )


def test_the_classifier_can_be_trained_on_and_saved_again(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    folder = merge(make_delta(backbone, task=MEAN), backbone, tmp_path / "merged")
    model = allowed(folder)
    batch, labels = inputs("bert", (9, 5)), torch.tensor([0, 2])
    outputs = model(**batch, labels=labels)
    torch.testing.assert_close(outputs.loss, torch.nn.functional.cross_entropy(outputs.logits, labels))
    model.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(allowed(tmp_path / "again")(**batch).logits, outputs.logits, rtol=0, atol=0)
    assert model.config.id2label == {0: "sad", 1: "glad", 2: "calm"}
    assert model.dropout.p == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("method", "model"),
    [("lora", "bert"), ("ia3", "bert"), ("red", "gpt2"), ("beft", "llama"), ("added-bias", "llama")],
)
def test_what_a_method_puts_in_is_folded_below_a_head_on_the_mean(method: str, model: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model)
    delta = make_delta(backbone, method, task=MEAN)
    batch = inputs(model, (9, 5))
    with torch.no_grad(), delta.applied(backbone) as trained:
        expected = trained(**batch).logits
    with torch.no_grad():
        found = allowed(merge(delta, backbone, tmp_path / "merged"))(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_new_modules_are_refused_below_a_head_on_the_mean(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    with pytest.raises(DeltaError, match="has no place for them"):
        merge(make_delta(backbone, "houlsby", task=MEAN), backbone, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_what_a_folder_brings_along_needs_transformers_alone() -> None:
    code = ast.parse(Path(modeling_mean.__file__).read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(code) if isinstance(node, ast.Import) for alias in node.names]
    assert {str(module).partition(".")[0] for module in modules} == {"typing", "torch", "transformers"}


@pytest.mark.real
def test_a_trained_embedded_model_answers_the_same_in_a_pipeline_and_as_a_chain(tmp_path: Path) -> None:
    films = [f"A {'moving' if number % 2 else 'dull'} film, number {number}." for number in range(64)]
    labels = ["good" if number % 2 else "bad" for number in range(64)]
    try:
        backbone = bitfit.load("minilm")
    except bitfit.errors.MissingExtraError:
        pytest.skip("the extra 'demo' is not installed")
    delta = bitfit.train(backbone, (films, labels), "bitfit", {"epochs": 2, "precision": "fp32"}).delta
    assert delta.task.pool == "mean"
    folder = merge(delta, backbone, tmp_path / "merged")
    texts = ["A moving, funny film.", "Dull.", "It goes on and on, " * 60]  # the last one is cut
    classify = pipeline("text-classification", str(folder), trust_remote_code=True, top_k=None)
    assert_same_scores(classify, delta, backbone, texts)
    answers = Predictor(backbone, delta, precision="fp32")(texts)
    for shares, answer in zip(chained(folder, texts).softmax(1).tolist(), answers, strict=True):
        assert dict(zip(delta.task.labels, shares, strict=True)) == pytest.approx(answer.scores, abs=1e-5)
