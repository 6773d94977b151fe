"""Families that put gains and shifts at sites: what each trains where, against plain torch, alone and beside others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

import bitfit
from bitfit.backbone.heads import Head
from bitfit.errors import DeltaError, RequestError
from bitfit.integrations.checkpoint import merge
from bitfit.methods.method import Method
from bitfit.training.train import train_rows
from tests.batches import assert_near, both, plain_answers
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

HEAD = Head("class", 2)
FAMILIES = ("ia3", "red", "beft", "steer", "gain-and-bias")
CONFIG = bitfit.TrainConfig(epochs=2, batch_size=8, learning_rate=2e-2, precision="fp32")
IN_BERT = {
    "ia3": {"attention.self.key.gain", "attention.self.value.gain", "output.dense.input_gain"},
    "red": {"output.dense.gain", "output.dense.shift"},
    "beft": {"attention.self.value.shift"},
    "steer": {"shift"},
}
Edit = Callable[[str, Tensor], Tensor]


def slots_of(model_type: str, method: str) -> dict[str, tuple[int, bool]]:
    """Size of each slot by its key, and whether it is inert."""
    model = tiny_backbone(model_type).task_model(HEAD)
    chosen = Method.parse(method, "frozen")
    chosen.insert(model)
    return {slot.key: (slot.size, slot.inert) for slot in chosen.select(model).slots}


@pytest.mark.parametrize("method", IN_BERT)
def test_what_trains_in_bert(method: str) -> None:
    found = slots_of("bert", f"{method}@1")
    assert {key.removeprefix("bert.encoder.layer.1.") for key in found} == IN_BERT[method]
    assert not any(inert for _, inert in found.values())


def test_gain_and_bias_is_on_every_layer_and_norm_and_the_keys_shift_is_inert() -> None:
    found = slots_of("bert", "gain-and-bias@0")
    assert len(found) == 2 * 8
    assert [key for key, (_, inert) in found.items() if inert] == ["bert.encoder.layer.0.attention.self.key.shift"]


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "modernbert"])
def test_of_a_fused_projection_the_parts_that_were_asked_for_train(model_type: str) -> None:
    gains = {key.rpartition(":")[2]: size for key, (size, _) in slots_of(model_type, "ia3@0").items() if ":" in key}
    assert gains == {"key": 32, "value": 32}
    shifts = {key.rpartition(":")[2]: size for key, (size, _) in slots_of(model_type, "beft@0").items()}
    assert shifts == {"value": 32}


def test_a_decoders_look_at_its_encoder_has_gains_too() -> None:
    found = slots_of("t5", "ia3")
    assert sum(".EncDecAttention." in key for key in found) == 2 * 2
    assert sum("input_gain" in key for key in found) == 4


@pytest.mark.parametrize(
    ("method", "rate"), [("ia3", 3e-3), ("red", 3e-3), ("beft", 1e-3), ("steer", 1e-2), ("gain-and-bias", 3e-3)]
)
def test_default_learning_rates(method: str, rate: float) -> None:
    assert Method.parse(method).learning_rate == rate
    assert Method.parse(method).shares_a_pass


@pytest.mark.parametrize("method", FAMILIES)
def test_terms_in_brackets_are_refused(method: str) -> None:
    with pytest.raises(RequestError, match="takes no terms in brackets"):
        Method.parse(f"{method}[query]")


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "modernbert", "t5"])
@pytest.mark.parametrize("method", FAMILIES)
def test_a_training_trains_saves_applies_and_predicts(method: str, model_type: str, tmp_path: Path) -> None:
    backbone, data = tiny_backbone(model_type), tiny_data()
    for split in data.splits.values():
        split.ids[split.offsets[1:] - 1] = 3  # the end, which T5 looks for
    run = bitfit.train(backbone, data, method, CONFIG)
    run.delta.save(tmp_path / "run.safetensors")
    delta = bitfit.Delta.load(tmp_path / "run.safetensors")
    delta.verify(backbone)
    assert bitfit.evaluate(backbone, delta, data, "test", precision="fp32") == run.scores["test"]
    moved = [values for key, values in delta.values.items() if "gain" in key or "shift" in key]
    assert moved
    assert any(np.abs(values).max() > 0 for values in moved)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("method", [*FAMILIES, "layernorm"])
@pytest.mark.slow
def test_runs_that_share_passes_become_what_each_becomes_alone(method: str, model_type: str) -> None:
    backbone, data = tiny_backbone(model_type), tiny_data()
    configs = [
        bitfit.TrainConfig(epochs=2, batch_size=8, learning_rate=rate, seed=seed, precision="fp32")
        for seed, rate in enumerate((1e-2, 3e-3, 2e-2))
    ]
    together = train_rows(backbone, data, Method.parse(method), configs)
    for config, run in zip(configs, together, strict=True):
        alone = bitfit.train(backbone, data, method, config)
        for key, values in alone.delta.values.items():
            np.testing.assert_allclose(run.delta.values[key], values, rtol=1e-3, atol=1e-4, err_msg=key)


def temperature(delta: bitfit.Delta) -> float:
    """What a merged head's numbers are divided by, so that their scores are `predict`'s."""
    assert delta.temperature is not None
    return delta.temperature


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["ia3", "red", "beft", "gain-and-bias"])
def test_a_merged_checkpoint_predicts_the_same_through_transformers_alone(
    method: str, model_type: str, tmp_path: Path
) -> None:
    backbone = tiny_backbone(model_type)
    delta = bitfit.train(backbone, tiny_data(), method, CONFIG).delta
    folder = merge(delta, backbone, tmp_path / "merged")
    ordinary = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    padded, _ = both(model_type, (9, 5, 12))
    with torch.no_grad(), delta.applied(backbone) as trained:
        assert not any("gain" in name or "shift" in name for name, _ in ordinary.named_parameters())
        assert_near(
            plain_answers(ordinary, padded, HEAD), plain_answers(trained, padded, HEAD) / temperature(delta), 1e-5
        )
    delta.verify(backbone)


def test_new_biases_are_merged_where_the_configuration_can_ask_for_them(tmp_path: Path) -> None:
    backbone = tiny_backbone("llama")
    delta = bitfit.train(backbone, tiny_data(), "beft", CONFIG).delta
    ordinary = AutoModelForSequenceClassification.from_pretrained(merge(delta, backbone, tmp_path / "merged")).eval()
    assert ordinary.config.attention_bias
    padded, _ = both("llama", (9, 5, 12))
    with torch.no_grad(), delta.applied(backbone) as trained:
        assert_near(
            plain_answers(ordinary, padded, HEAD), plain_answers(trained, padded, HEAD) / temperature(delta), 1e-5
        )


@pytest.mark.parametrize(("model_type", "method"), [("bert", "steer"), ("t5", "beft"), ("llama", "gain-and-bias")])
def test_what_has_no_place_in_an_ordinary_checkpoint_is_refused(model_type: str, method: str, tmp_path: Path) -> None:
    backbone, data = tiny_backbone(model_type), tiny_data()
    for split in data.splits.values():
        split.ids[split.offsets[1:] - 1] = 3
    delta = bitfit.train(backbone, data, method, CONFIG).delta
    with pytest.raises(DeltaError, match=f"'{method}' put new parameters into the model, .* has no place for them"):
        merge(delta, backbone, tmp_path / "merged")
    delta.verify(backbone)


def test_beft_learns_what_bitfit_learns_of_the_value_biases() -> None:
    backbone = tiny_backbone("bert")
    shift = bitfit.train(backbone, tiny_data(), "beft", CONFIG).delta
    bias = bitfit.train(backbone, tiny_data(), "bitfit[value,no-pooler]", CONFIG).delta
    place = "bert.encoder.layer.{}.attention.self.value."
    for layer in range(2):
        before = backbone.model.get_parameter(place.format(layer).removeprefix("bert.") + "bias").detach().numpy()
        moved = bias.values[place.format(layer) + "bias"] - before
        np.testing.assert_allclose(shift.values[place.format(layer) + "shift"], moved, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", FAMILIES)
def test_a_family_learns_what_plain_torch_learns(method: str) -> None:
    backbone = tiny_backbone("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    plain, equipped = backbone.task_model(HEAD), backbone.task_model(HEAD)
    Method.parse(method).insert(equipped)
    selection = Method.parse(method, "frozen").select(equipped)
    selection.freeze()
    padded, _ = both("bert", (9, 5, 12))
    plain_answers(equipped, padded, HEAD).square().sum().backward()
    learnt = [slot for slot in selection.slots if not slot.inert]
    values = {slot.name: torch.zeros(slot.shape, requires_grad=True) for slot in learnt}
    for name, value in values.items():
        module, _, leaf = name.rpartition(".")
        _change(plain.get_submodule(module), value, leaf)
    plain_answers(plain, padded, HEAD).square().sum().backward()
    for name, value in values.items():
        found = equipped.get_parameter(name).grad
        assert found is not None
        assert value.grad is not None
        assert_near(found, value.grad)


def _change(module: nn.Module, value: Tensor, leaf: str) -> None:
    """Compute with the value by a hook; hooks run in the order of their names: gain before shift."""

    def change(output: Tensor) -> Tensor:
        return output + value if leaf == "shift" else output * (1 + value)

    def after(_: nn.Module, given: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    if leaf == "input_gain":
        module.register_forward_pre_hook(lambda _, given: (change(given[0]),))
    else:
        module.register_forward_hook(after)
