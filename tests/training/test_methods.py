"""Every method goes through the one loop: what trained is what is counted, saved, applied and reverted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bitfit
from bitfit.backbone.fingerprint import fingerprint
from bitfit.backbone.heads import Head
from bitfit.backbone.load import Backbone
from bitfit.data.examples import TaskData
from bitfit.errors import RequestError
from bitfit.inference.outputs import outputs
from bitfit.inference.predictor import Predictor
from bitfit.runtime import precision
from bitfit.runtime.row_model import RowModel
from tests.models import ARCHITECTURES, BIAS_FREE, tiny_backbone
from tests.training.tiny_task import tiny_data

METHODS = [
    "bitfit",
    "bitfit[b_m2,b_q]",
    "bitfit[auto:2%]",
    "full",
    "frozen",
    "layernorm",
    "random-uniform",
    "random-rows-columns",
    "lora",
    "houlsby[4]",
    "diff-pruning",
    "diff-pruning[structured]",
]
CASES = [
    *[("bert", method) for method in METHODS],
    *[(name, "bitfit") for name in ARCHITECTURES if name not in ("bert", "vit", *BIAS_FREE)],
    *[("gpt2", method) for method in ("bitfit[auto:1%]", "lora", "houlsby", "diff-pruning")],
    *[("llama", method) for method in ("added-bias", "lora")],
    ("t5", "added-bias"),
    ("modernbert", "added-bias"),
    ("deberta-v2", "houlsby"),
]
CONFIG = bitfit.TrainConfig(epochs=2, batch_size=8, learning_rate=5e-3, precision="fp32")


def texts() -> TaskData:
    data = tiny_data()
    for split in data.splits.values():
        split.ids[split.offsets[1:] - 1] = 3  # the end, which T5 looks for
    return data


def trained(backbone: Backbone, method: str, config: bitfit.TrainConfig = CONFIG) -> bitfit.Run:
    return bitfit.train(backbone, texts(), method, config)


UNLISTED: dict[str, dict[str, Any]] = {
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "longformer": {"attention_window": 8},
}


@pytest.mark.parametrize("model_type", UNLISTED)
def test_an_architecture_that_nobody_listed_trains_also_where_bf16_is_fast(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fast_bf16", lambda: True)
    run = trained(tiny_backbone(model_type, **UNLISTED[model_type]), "bitfit", replace(CONFIG, precision="auto"))
    assert "validation" in run.scores


@pytest.mark.parametrize(("model_type", "method"), CASES)
def test_what_trained_is_what_was_counted_and_saved(model_type: str, method: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model_type)
    run = trained(backbone, method)
    assert fingerprint(backbone.model) == backbone.fingerprint
    delta = run.delta
    delta.save(tmp_path / "run.safetensors")
    delta = bitfit.Delta.load(tmp_path / "run.safetensors")
    assert run.trainable == sum(slot.size for slot in delta.slots)
    delta.verify(backbone)
    plain = backbone.task_model(delta.task.head)
    delta.insert_modules(plain)
    before = {name: value.detach().clone() for name, value in plain.named_parameters()}
    with delta.applied(backbone) as model:
        for name, value in model.named_parameters():
            changed = (value != before[name]).flatten()
            for slot in (slot for slot in delta.slots if slot.name == name):
                inside = slice(None) if slot.index is None else torch.from_numpy(slot.index)
                assert not (slot.inert and not slot.in_head and changed[inside].any()), slot.key
                changed[inside] = False
            assert not changed.any(), name
    assert fingerprint(backbone.model) == backbone.fingerprint


@pytest.mark.parametrize("method", ["lora", "houlsby[4]", "diff-pruning", "bitfit[auto:2%]"])
def test_two_runs_give_the_same_file_and_the_file_gives_the_scores(method: str) -> None:
    backbone = tiny_backbone("bert")
    first, second = trained(backbone, method), trained(backbone, method)
    assert first.delta.to_bytes() == second.delta.to_bytes()
    assert bitfit.evaluate(backbone, first.delta, texts(), "test", precision="fp32") == first.scores["test"]


@pytest.mark.parametrize("method", ["lora", "houlsby[4]", "added-bias"])
def test_a_seed_draws_the_new_parameters_and_the_training_moves_them(method: str) -> None:
    backbone = tiny_backbone("llama")
    found = [trained(backbone, method, bitfit.TrainConfig(epochs=1, seed=seed)).delta.values for seed in (0, 1)]
    assert all((found[0][key] != found[1][key]).any() for key in found[0])


def test_packed_answers_with_new_parameters_are_the_plain_models() -> None:
    backbone = tiny_backbone("bert")
    data = texts()
    for method in ("lora", "houlsby[4]"):
        delta = trained(backbone, method).delta
        test = data.splits["test"]
        found = Predictor(backbone, delta, "fp32").outputs(test)
        with delta.applied(backbone) as model, torch.no_grad():
            for i, own in enumerate(found):
                ids = torch.from_numpy(test.ids[test.offsets[i] : test.offsets[i + 1]].astype(np.int64))[None]
                torch.testing.assert_close(model(input_ids=ids).logits[0], torch.from_numpy(own), rtol=0, atol=1e-4)


def test_added_biases_of_several_runs_share_a_pass() -> None:
    backbone = tiny_backbone("llama")
    configs = [bitfit.TrainConfig(epochs=1, batch_size=4, seed=seed, precision="fp32") for seed in (0, 1)]
    runs = bitfit.train_rows(backbone, texts(), "added-bias", configs)
    for config, run in zip(configs, runs, strict=True):
        alone = bitfit.train(backbone, texts(), "added-bias", config)
        for key, value in alone.delta.values.items():
            np.testing.assert_allclose(run.delta.values[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["diff-pruning", "diff-pruning[structured]"])
def test_diff_pruning_keeps_its_half_percent_and_no_more(method: str) -> None:
    backbone = tiny_backbone("bert")
    run = trained(backbone, method)
    total = sum(parameter.numel() for parameter in backbone.model.parameters())
    sparse = [slot for slot in run.delta.slots if not slot.in_head]
    assert sum(slot.size for slot in sparse) == round(0.005 * total)
    changed = 0
    with run.delta.applied(backbone) as model:
        base = {name: value for name, value in model.named_parameters() if name.startswith("bert.")}
        inside = {name: value.detach().clone() for name, value in base.items()}
    for name, value in tiny_backbone("bert").model.named_parameters():
        changed += int((inside[f"bert.{name}"] != value).sum())
    assert changed == round(0.005 * total)
    assert [epoch.get("phase") for epoch in run.history] == ["gates", "gates", None, None]


def test_an_automatic_choice_spends_its_budget() -> None:
    backbone = tiny_backbone("bert")
    total = sum(parameter.numel() for parameter in backbone.model.parameters())
    run = trained(backbone, "bitfit[auto:2%]")
    spent = sum(slot.size for slot in run.delta.slots if not slot.in_head)
    assert 0.02 * total - 32 < spent <= 0.02 * total
    assert run.delta.method == "bitfit[auto:2%]"


class Unread:
    """Data that must not be looked at."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"data was read: {name}")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("bitfit[auto:90%]", "must lie between the smallest term"),
        ("bitfit[auto:0%]", "must lie between the smallest term"),
        ("bitfit[auto:much]", "A budget looks like"),
        ("bitfit[auto:2%]@0", "over all layers"),
        ("bitfit[b_m9]", "names no term: 'b_m9'. Did you mean"),
        ("bitfit@9", "the model has 2 layers"),
        ("diff-pruning[half]", r"or 'diff-pruning\[structured\]'"),
        ("added-bias", "'bitfit' trains those"),
        ("lora[r=0]", "both above 0"),
        ("prompt", "There is no method 'prompt'"),
    ],
)
def test_what_cannot_be_is_refused_before_data_is_read(method: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        bitfit.train(tiny_backbone("bert"), Unread(), method)  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", ["bert", "albert", "t5", "modernbert"])
def test_what_one_pass_was_handed_does_not_stay_for_the_next(model_type: str) -> None:
    backbone, test = tiny_backbone(model_type), texts().splits["test"]
    model = RowModel(backbone.task_model(Head("class", 2)), Head("class", 2), torch.float32)
    before = outputs(model, {}, test)[0].values
    full = bitfit.select(backbone.task_model(Head("class", 2)), "full")
    outputs(model, {name: value + 1 for name, value in whole(full).items()}, test)
    np.testing.assert_array_equal(outputs(model, {}, test)[0].values, before)


def whole(selection: bitfit.Selection) -> dict[str, torch.Tensor]:
    return {slot.name: selection.model.get_parameter(slot.name).detach() for slot in selection.slots}
