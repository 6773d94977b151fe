"""Houlsby's adapters where the authors' code has them: behind the projection and its dropout, before the residual."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bitfit.backbone.anatomy import sites
from bitfit.backbone.heads import Head
from bitfit.methods.houlsby import Adapted
from bitfit.methods.method import Method
from tests.models import ARCHITECTURES, inputs, tiny_backbone

HEAD = Head("class", 3)


def adapted(model_type: str) -> nn.Module:
    model = tiny_backbone(model_type).task_model(HEAD)
    Method.parse("houlsby[4]").insert(model)
    return model


def dropouts_behind(model_type: str) -> dict[str, str]:
    """By experiment, for each projection that gets an adapter: the dropout layer that is handed its very output."""
    model = tiny_backbone(model_type).task_model(HEAD).train()
    chosen = [site.name for site in sites(model) if site.role in ("attention_output", "output")]
    outputs: dict[int, str] = {}
    alive, found = [], {}

    def note_output(name: str, output: torch.Tensor) -> None:
        alive.append(output)
        outputs[id(output)] = name

    def note_dropout(name: str, taken: torch.Tensor) -> None:
        if id(taken) in outputs:
            found[outputs[id(taken)]] = name

    for name, module in model.named_modules():
        if name in chosen:
            module.register_forward_hook(lambda _, __, output, name=name: note_output(name, output))
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda _, taken, __, name=name: note_dropout(name, taken[0]))
    with torch.no_grad():
        model(**inputs(model_type))
    return found


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_dropout_behind_a_projection_moves_before_the_adapter(model_type: str) -> None:
    plain = dict(tiny_backbone(model_type).task_model(HEAD).named_modules())
    model = adapted(model_type)
    behind = dropouts_behind(model_type)
    for name, module in model.named_modules():
        if isinstance(module, Adapted):
            expected = plain[behind[name]].p if name in behind else 0.0
            assert module.dropout.p == expected, name
    for name in set(behind.values()):
        assert isinstance(model.get_submodule(name), nn.Identity)


def test_an_adapted_sub_layer_is_the_references() -> None:
    model = adapted("bert")
    layer = model.get_submodule("bert.encoder.layer.0.output").train()
    block, norm = layer.get_submodule("dense"), layer.get_submodule("LayerNorm")
    assert isinstance(block, Adapted)
    block.dropout.p = 0.5
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) / 3)
    x, residual = torch.randn(2, 5, 48), torch.randn(2, 5, 32)
    torch.manual_seed(4)
    found = layer(x, residual)
    torch.manual_seed(4)
    dense, down, up = block.base_layer, block.down, block.up
    y = functional.dropout(functional.linear(x, dense.weight, dense.bias), 0.5)  # type: ignore[arg-type]
    adapter = y + functional.linear(
        functional.gelu(functional.linear(y, down.weight, down.bias)), up.weight, up.bias
    )  # its own way past the bottleneck, and no dropout behind
    torch.testing.assert_close(found, norm(adapter + residual))


def test_taking_the_adapters_out_gives_the_model_its_dropout_back() -> None:
    model = tiny_backbone("vit").task_model(HEAD)
    before = dict(model.named_modules())
    insertion = Method.parse("houlsby[4]").insert(model)
    assert dict(model.named_modules()).keys() != before.keys()
    insertion.undo()
    assert dict(model.named_modules()) == before


def test_weights_start_as_the_references_and_biases_at_zero() -> None:
    model = tiny_backbone("bert", hidden_size=256, intermediate_size=512).task_model(HEAD)
    start = Method.parse("houlsby[256]").insert(model).names
    values = {name: model.get_parameter(name) for name in start}
    weights = torch.cat([value.flatten() for name, value in values.items() if name.endswith("weight")])
    assert not any(value.any() for name, value in values.items() if name.endswith("bias"))
    assert float(weights.abs().max()) <= 2e-3  # a normal of 1e-3, drawn again beyond two of them
    assert float(weights.std()) == pytest.approx(0.88e-3, rel=0.01)  # what such a cut leaves of it
    assert float(weights.mean()) == pytest.approx(0.0, abs=1e-5)
