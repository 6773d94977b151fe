"""A pass that begins above the layers that never change: the same loss and gradients, on every architecture."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig

from bitfit.backbone.anatomy import layers_in_turn
from bitfit.backbone.heads import Head
from bitfit.inference.outputs import losses
from bitfit.methods.method import Method, select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.layout import Batch, Layout
from bitfit.runtime.row_model import RowModel
from tests.batches import SHAKEN, assert_near, both
from tests.models import ARCHITECTURES, BIAS_FREE, tiny_backbone

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
ASIDE = {  # what does not take part
    "albert": "layers are shared",
    "bart": "padded",
    "bloom": "padded",
    "deberta-v2": "padded",
    "mpnet": "padded",
    "t5": "padded",
    "vit": "padded",
}
TAKING_PART = tuple(name for name in ARCHITECTURES if name not in ASIDE)
CLASS, TAGS = Head("class", 3), Head("tags", 5)
SIZES = (9, 1, 17, 16, 33)
UNEVEN = [
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("modernbert", {"local_attention": 4, "global_attn_every_n_layers": 2}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    ("bert", {"is_decoder": True}),
]


class Trial:
    """A method on a model of three layers, with a batch to try it on."""

    def __init__(self, model_type: str, method: str, head: Head = CLASS, rows: int = 1, **settings: Any) -> None:
        counts = {name: 3 for name in COUNTS if hasattr(AutoConfig.for_model(model_type), name)}
        backbone = tiny_backbone(model_type, **counts, **settings)
        plain, inner = backbone.task_model(head), backbone.task_model(head)
        for one in (plain, inner):
            Method.parse(method).insert(one)
        self.model, self.head = RowModel(inner, head, torch.float32), head
        selection = select(plain, method)
        self.map = ThetaMap(with_whole_head(selection, plain), plain)
        start = self.map.starting_row(Method.parse(method).start(plain, 0))
        noise = torch.randn(rows, self.map.size, generator=torch.Generator().manual_seed(5)) / 30
        self.start = start[None] + noise
        batch = self.images() if model_type == "vit" else both(model_type, SIZES * rows)[1]
        self.batch = Batch(batch.ids, batch.types, Layout(batch.layout.lengths, (len(SIZES),) * rows), batch.pixels)

    @property
    def below(self) -> int:
        return self.model.layers_below(slot.name for slot in self.map.slots)

    def images(self) -> Batch:
        pixels = torch.randn(len(SIZES), 3, 16, 16, generator=torch.Generator().manual_seed(3))
        ids = torch.zeros(len(SIZES), dtype=torch.int64)
        return Batch(ids, ids, Layout((1,) * len(SIZES), (len(SIZES),)), pixels)

    def kept(self) -> Batch:
        """The batch with what lies at the boundary."""
        with torch.no_grad():
            states = self.model.read(self.batch)
        return Batch(self.batch.ids, self.batch.types, self.batch.layout, None, states)

    def learnt(self, batch: Batch, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Each row's loss and the gradient of theta, with the dropout of a seed or without any."""
        theta = self.start.clone().requires_grad_()
        draws = None if seed is None else Draws([[seed, row] for row in range(len(theta))])
        answers = self.model.answers(batch, self.map.tensors(theta), draws)
        labels = torch.arange(len(answers)) % self.head.outputs
        found = losses(self.head.kind, answers, labels, batch.layout).sums
        found.sum().backward()
        assert theta.grad is not None
        return found.detach(), theta.grad


def of_upper_layers(model_type: str, layers: str) -> str:
    return f"added-bias@{layers}" if model_type in BIAS_FREE else f"bitfit@{layers}"


def shaken(model_type: str) -> dict[str, float]:
    """Dropout far too strong to be overlooked."""
    return dict.fromkeys(SHAKEN.get(model_type, {}), 0.4)


@pytest.mark.parametrize("head", [CLASS, TAGS], ids=["class", "tags"])
@pytest.mark.parametrize(("layers", "below"), [("last1", 2), ("last2", 1)])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_from_kept_states_loss_and_gradients_are_the_same(model_type: str, layers: str, below: int, head: Head) -> None:
    if (model_type, head.kind) == ("vit", "tags"):
        pytest.skip("images have no tokens to tag")
    trial = Trial(model_type, of_upper_layers(model_type, layers if model_type != "albert" else "0"), head)
    assert trial.below == (0 if model_type in ASIDE else below)
    if model_type in ASIDE:
        return
    loss, gradient = trial.learnt(trial.batch)
    trial.model.boundary = below
    loss_kept, gradient_kept = trial.learnt(trial.kept())
    assert_near(loss_kept, loss, 1e-5)
    assert_near(gradient_kept, gradient, 1e-5)
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize(("model_type", "settings"), UNEVEN, ids=str)
def test_layers_that_differ_from_one_another_stay_in_their_places(model_type: str, settings: dict[str, Any]) -> None:
    trial = Trial(model_type, of_upper_layers(model_type, "last2"), **settings)
    loss, gradient = trial.learnt(trial.batch)
    trial.model.boundary = 1
    loss_kept, gradient_kept = trial.learnt(trial.kept())
    assert_near(loss_kept, loss, 1e-5)
    assert_near(gradient_kept, gradient, 1e-5)


@pytest.mark.parametrize("method", ["lora@last1", "added-bias@last1", "layernorm@last1", "full@last1"])
def test_any_method_of_upper_layers_can_begin_there(method: str) -> None:
    trial = Trial("llama" if method.startswith("added") else "bert", method)
    loss, gradient = trial.learnt(trial.batch)
    assert trial.below == 2
    trial.model.boundary = 2
    loss_kept, gradient_kept = trial.learnt(trial.kept())
    assert_near(loss_kept, loss, 1e-5)
    assert_near(gradient_kept, gradient, 1e-5)


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_rows_share_the_states(model_type: str) -> None:
    trial = Trial(model_type, "bitfit@last1", rows=3)
    loss, gradient = trial.learnt(trial.batch)
    trial.model.boundary = 2
    loss_kept, gradient_kept = trial.learnt(trial.kept())
    assert_near(loss_kept, loss, 1e-5)
    assert_near(gradient_kept, gradient, 1e-5)


@pytest.mark.parametrize("model_type", TAKING_PART)
def test_dropout_begins_at_the_boundary_whether_the_states_are_kept_or_not(model_type: str) -> None:
    trial = Trial(model_type, of_upper_layers(model_type, "last1"), **shaken(model_type))
    everywhere, _ = trial.learnt(trial.batch, seed=1)
    trial.model.boundary = 2
    anew, gradient_anew = trial.learnt(trial.batch, seed=1)
    kept, gradient_kept = trial.learnt(trial.kept(), seed=1)
    still, _ = trial.learnt(trial.batch)
    assert_near(kept, anew, 1e-5)
    assert_near(gradient_kept, gradient_anew, 1e-5)
    assert (anew - everywhere).abs().max() > 1e-4, "below the boundary dropout was on"
    assert (anew - still).abs().max() > 1e-4, "above it dropout was off"


@pytest.mark.parametrize("head", [CLASS, TAGS], ids=["class", "tags"])
@pytest.mark.parametrize("model_type", ["bert", "albert", "opt"])
def test_behind_the_last_layer_the_head_alone_has_dropout(model_type: str, head: Head) -> None:
    trial = Trial(model_type, "frozen", head, classifier_dropout=0.4, classifier_dropout_prob=0.4)
    assert trial.below == trial.model.layers == 3
    trial.model.boundary = 3
    kept, gradient_kept = trial.learnt(trial.kept(), seed=1)
    anew, gradient_anew = trial.learnt(trial.batch, seed=1)
    assert_near(kept, anew, 1e-5)
    assert_near(gradient_kept, gradient_anew, 1e-5)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_layers_below_all_that_trains_build_no_graph(model_type: str) -> None:
    trial = Trial(model_type, of_upper_layers(model_type, "last1"))
    encoder = trial.model.encoder.model if trial.model.packed else trial.model.padded.model.base_model
    names = layers_in_turn(encoder)
    if not names:
        pytest.skip("its layers are several lists, or shared")
    tracked: list[bool] = []
    for name in names:
        encoder.get_submodule(name).register_forward_hook(
            lambda layer, given, answer: tracked.append(
                (answer if torch.is_tensor(answer) else answer[0]).requires_grad
            )
        )
    trial.learnt(trial.batch)
    assert tracked == [False, False, True]


@pytest.mark.parametrize(
    ("model_type", "method", "below"),
    [
        ("bert", "bitfit", 0),
        ("bert", "full", 0),
        ("bert", "bitfit@0", 0),
        ("bert", "bitfit[embedding_norm]", 0),
        ("bert", "bitfit[pooler]", 3),
        ("bert", "bitfit[b_m2]@1-2", 1),
        ("bert", "random-uniform", 0),
        ("bert", "houlsby@last1", 0),  # trains every norm
        ("gpt2", "bitfit[final_norm]", 2),
        ("roberta", "frozen", 3),
        ("albert", "bitfit@0", 0),
        ("t5", "frozen", 0),
        ("vit", "frozen", 0),
    ],
)
def test_how_many_layers_lie_below_what_trains(model_type: str, method: str, below: int) -> None:
    assert Trial(model_type, method).below == below


def test_a_pass_that_fails_leaves_every_layer_and_the_dropout_as_they_were() -> None:
    trial = Trial("bert", "bitfit@last1")
    before, _ = trial.learnt(trial.batch, seed=1)
    trial.model.boundary = 2
    kept = trial.kept()
    wrong = Batch(kept.ids, kept.types, kept.layout, None, kept.states[:, :5])  # type: ignore[index]
    with pytest.raises(RuntimeError):
        trial.learnt(wrong, seed=1)
    trial.model.boundary = 0
    assert torch.equal(trial.learnt(trial.batch, seed=1)[0], before)
