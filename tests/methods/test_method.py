"""A method as a value: parsed once, the same however its name is spelt, and open to families from outside."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import bitfit
from bitfit.backbone.anatomy import sites
from bitfit.backbone.heads import Head
from bitfit.errors import RequestError
from bitfit.methods import registry
from bitfit.methods.family import Family, InsertingFamily
from bitfit.methods.insertion import Undo, maybe_get_insertion, swap
from bitfit.methods.method import Method
from bitfit.methods.selection import Slot
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

SOURCE = Path(bitfit.__file__).parent


@pytest.mark.parametrize(
    ("spelt", "name", "rate"),
    [
        (" full ", "full", 5e-5),
        ("lora [r = 8]", "lora[r=8]", 5e-4),
        ("bitfit[ b_m2, b_q ] @ last2", "bitfit[b_m2,b_q]@last2", 4e-3),
    ],
)
def test_blanks_in_a_name_change_nothing(spelt: str, name: str, rate: float) -> None:
    method = Method.parse(spelt)
    assert method == Method.parse(name)
    assert hash(method) == hash(Method.parse(name))
    assert method.name == name
    assert bitfit.TrainConfig().settled(method, 100).learning_rate == rate


def test_methods_differ_by_name_and_head() -> None:
    assert Method.parse("bitfit") != Method.parse("bitfit", "bias") != Method.parse("frozen", "bias")
    assert repr(Method.parse("bitfit[b_q]", "bias")) == "Method('bitfit[b_q]', head='bias')"
    assert Method.of(Method.parse("full", "frozen")).head == "frozen"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bitfti", "Did you mean 'bitfit'"),
        ("full[b_q]", "takes no terms in brackets"),
        ("frozen@2", "trains no layers"),
        ("houlsby[wide]", "takes the width"),
        ("lora[r=0]", "both above 0"),
        ("lora[r=4,r=8]", "takes one r"),
        ("bitfit[b_q,pooler,no-pooler]", "asks for the pooler and leaves it out"),
        ("bitfit[b_q,all-but-query]", "asks for query and leaves it out"),
        ("bitfit@-1", "Layers look like"),
        ("diff-pruning[half]", "prunes the whole encoder"),
        ("random-uniform@1", "draws from the whole encoder"),
        ("bitfit[qeury]", "names no term: 'qeury'. Did you mean 'query'"),
        ("bitfit[all-but-pooller]", "names no term: 'pooller'. Did you mean 'pooler'"),
        ("added-bias[b_q,vaule]", "names no term: 'vaule'. Did you mean 'value'"),
        ("added-bias[zz]", "names no term: 'zz'. Known: attention_norm"),
        ("added-bias[auto:5000]", "names no term: 'auto:5000'"),
        ("added-bias[pooler,no-pooler]", "asks for the pooler and leaves it out"),
    ],
)
def test_what_is_wrong_in_a_name_is_found_without_a_model(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Method.parse(text)


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(RequestError, match="Expected a method or the name of one"):
        Method.of(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(registry.FAMILIES))
def test_checks_counts_and_selections_leave_the_model_as_it_is(name: str) -> None:
    model = tiny_backbone("t5" if name == "added-bias" else "bert").task_model(Head("class", 3))
    method = Method.parse(name)
    before = {key: (id(value), value.clone()) for key, value in model.named_parameters()}
    modules = [(key, id(module)) for key, module in model.named_modules()]
    method.check(model)
    assert method.count(model) > 0
    if method.inserts or method.phases != ("",):
        with pytest.raises(RequestError, match=r"Put them in first|while it trains"):
            method.select(model)
    else:
        assert method.select(model).size == method.count(model)
    assert [(key, id(module)) for key, module in model.named_modules()] == modules
    assert {key: id(value) for key, value in model.named_parameters()} == {key: old for key, (old, _) in before.items()}
    assert all(torch.equal(value, before[key][1]) for key, value in model.named_parameters())
    assert maybe_get_insertion(model) is None


@pytest.mark.parametrize("name", ["lora", "houlsby[4]", "added-bias"])
def test_the_count_is_that_of_a_model_that_carries_the_new_parameters(name: str) -> None:
    model = tiny_backbone("t5" if name == "added-bias" else "bert").task_model(Head("class", 3))
    method = Method.parse(name, "bias")
    counted = method.count(model)
    method.insert(model)
    assert method.select(model).size == counted == method.count(model)


@pytest.mark.parametrize("inserted", ["red", "lora", "houlsby[4]"])
@pytest.mark.parametrize("name", ["bitfit", "full", "layernorm", "frozen", "random-uniform", "random-lines", "ia3"])
def test_a_model_that_carries_anothers_parameters_is_refused(name: str, inserted: str) -> None:
    model, method = tiny_backbone("bert").task_model(Head("class", 3)), Method.parse(name)
    wanted = None if method.inserts else method.select(model)
    insertion = Method.parse(inserted).insert(model)
    words = re.escape(f"carries the new parameters of '{inserted}', so '{name}' finds no untouched one. Use a fresh")
    for call in (method.select, method.count, method.check, method.insert):
        with pytest.raises(RequestError, match=words):
            call(model)
    insertion.undo()
    assert wanted is None or method.select(model) == wanted


@pytest.mark.parametrize("name", ["lora", "houlsby[4]", "red", "added-bias"])
def test_new_parameters_are_frozen_until_they_are_selected(name: str) -> None:
    model = tiny_backbone("t5" if name == "added-bias" else "bert").task_model(Head("class", 3))
    names = Method.parse(name).insert(model).names
    assert names
    assert not any(model.get_parameter(new).requires_grad for new in names)
    Method.parse(name).select(model).freeze()
    assert any(model.get_parameter(new).requires_grad for new in names)


def test_a_backbone_or_a_name_in_place_of_a_model_is_refused_with_what_to_give() -> None:
    backbone = tiny_backbone("bert")
    words = r"Expected a model, such as backbone\.task_model\(head\) or backbone\.model; found a Backbone"
    for call in (bitfit.select, bitfit.terms, Method.parse("ia3").insert, Method.parse("bitfit").count):
        with pytest.raises(RequestError, match=words):
            call(backbone)  # type: ignore[operator]
    with pytest.raises(RequestError, match="found a str"):
        bitfit.terms("minilm")  # type: ignore[arg-type]


class Scaled(nn.Module):
    """A linear layer with one more number behind it."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.base_layer(x) * self.scale
        return found


class Scales(InsertingFamily):
    """A family that nobody here has heard of: each MLP's output times a number."""

    learning_rate = 2e-2

    def put_in(self, model: nn.Module) -> Undo:
        layers = self.chosen_layers(model)
        chosen = [site.name for site in sites(model) if site.role == "output" and site.layer in layers]
        return swap(model, {name: Scaled(model.get_submodule(name)) for name in chosen})

    def start(self, name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
        return torch.ones(shape)


class Poolers(Family):
    """Another: the pooler's bias alone."""

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        return [Slot.of_parameter(model, "bert.pooler.dense.bias")]


@pytest.fixture
def families() -> Iterator[None]:
    before = dict(registry.FAMILIES)
    registry.register("scales", Scales)
    registry.register("poolers", Poolers)
    yield
    registry.FAMILIES.clear()
    registry.FAMILIES.update(before)


@pytest.mark.parametrize(("name", "encoder"), [("scales@1", 1), ("scales", 2), ("poolers", 32)])
def test_a_family_from_outside_is_trained_saved_loaded_and_applied(
    name: str, encoder: int, tmp_path: Path, families: None
) -> None:
    backbone, data = tiny_backbone("bert"), tiny_data()
    run = bitfit.train(backbone, data, name, bitfit.TrainConfig(epochs=2, batch_size=4, precision="fp32"))
    assert run.config.learning_rate == Method.parse(name).learning_rate
    assert sum(slot.size for slot in run.delta.slots if not slot.in_head) == encoder
    run.delta.save(tmp_path / "own.safetensors")
    delta = bitfit.Delta.load(tmp_path / "own.safetensors")
    assert delta.method == name
    delta.verify(backbone)
    assert bitfit.evaluate(backbone, delta, data, "test", precision="fp32") == run.scores["test"]
    with delta.applied(backbone) as model:
        for slot in delta.slots:
            assert torch.equal(model.get_parameter(slot.name), torch.from_numpy(delta.values[slot.key]))


def test_a_name_is_registered_once(families: None) -> None:
    registry.register("scales", Scales)
    with pytest.raises(RequestError, match="There is a method 'scales' already"):
        registry.register("scales", Poolers)
    with pytest.raises(RequestError, match="is a word, without brackets"):
        registry.register("scales[2]", Scales)
    with pytest.raises(RequestError, match=r"Expected a class made from bitfit\.Family; found 3"):
        registry.register("three", 3)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"The family Family does not say what every family must: .*slots"):
        registry.register("none", Family)


def outside_methods() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.parent.name != "methods"]


def test_no_family_is_told_by_its_name_outside_methods() -> None:
    names = "|".join(map(re.escape, registry.FAMILIES))
    name = rf"""["']({names})["']"""
    compared = re.compile(rf"""(==|!=|\bin) *\(?{name}|{name} *(==|!=|in|not in)\b|startswith\(\(?["']({names})""")
    for path in outside_methods():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and "startswith" in ast.unparse(node.func)):
                line = ast.unparse(node)
                # An architecture, a head that stays frozen, an exit code: no method.
                assert not compared.search(line) or re.search(r"\b(mode|head|head_mode)\b", line), f"{path}: {line}"
            if isinstance(node, ast.Attribute):
                assert node.attr != "family", f"{path}, line {node.lineno}: a method is asked, not its family"


def test_a_name_is_parsed_in_one_place() -> None:
    users = [path.name for path in sorted(SOURCE.rglob("*.py")) if "MethodName.parse(" in path.read_text("utf-8")]
    assert users == ["method.py", "registry.py"]  # the latter to refuse a name with brackets
