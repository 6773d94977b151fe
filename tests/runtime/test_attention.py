"""Packed attention against the definition: softmax(q k) v of each sequence by itself, forward and backward."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitfit.errors import BackboneError
from bitfit.runtime import attention
from bitfit.runtime.dropout import Draws
from bitfit.runtime.layout import Layout
from bitfit.runtime.passes import Pass, running
from tests.batches import assert_near

HEADS, SIZE = 4, 8
LENGTHS = (5, 16, 1, 33, 16, 40)


class Asking(nn.Module):
    """A module that asks for attention, as the layers of a model do."""

    def __init__(self, lengths: tuple[int, ...], seed: int = 0, causal: bool = False) -> None:
        super().__init__()
        self.now = Pass(Layout(lengths, (len(lengths),)), draws=Draws([seed]))
        self.is_causal = causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        """(tokens, heads, size) each."""
        attention.register()
        function: Any = attention.ALL_ATTENTION_FUNCTIONS[attention.NAME]
        filler = self.now.layout.filler
        parts = (functional.pad(part, (0, 0, 0, 0, 0, filler)).transpose(0, 1)[None] for part in (q, k, v))
        with running(self.now):
            found: Tensor = function(self, *parts, None, **options)[0][0]
        assert not found[len(found) - filler :].any()
        return found[: len(q)]


def parts(lengths: tuple[int, ...], shared: int = 1, spread: float = 1.0) -> list[Tensor]:
    """q, k and v; `shared` query heads read one key head."""
    generator = torch.Generator().manual_seed(4)
    heads = (HEADS, HEADS // shared, HEADS // shared)
    found = [torch.randn(sum(lengths), n, SIZE, generator=generator) * spread for n in heads]
    return [part.requires_grad_() for part in found]


def defined(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, kept: Tensor | None = None) -> Tensor:
    """One sequence by the definition; `seen` (from, to), `kept` (heads, from, to) already scaled."""
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * SIZE**-0.5
    weights = scores.masked_fill(~seen, -float("inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights if kept is None else weights * kept, v)


def visible(length: int, causal: bool, window: int | None) -> Tensor:
    ahead = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    seen = ahead >= 0 if causal else torch.ones(length, length, dtype=torch.bool)
    return seen if window is None else seen & (ahead.abs() < window)


def compare(found: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    """The answers, and the gradients of an uneven sum of them."""
    assert_near(found, wanted, 1e-5)
    uneven = torch.randn(found.shape, generator=torch.Generator().manual_seed(6))
    gradients = [torch.autograd.grad((answer * uneven).sum(), inputs) for answer in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("spread", [1.0, 6.0], ids=["level", "steep"])
@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 4), (True, 4), (True, 2)])
def test_each_sequence_attends_to_itself_alone(causal: bool, window: int | None, shared: int, spread: float) -> None:
    inputs = parts(LENGTHS, shared, spread)
    found = Asking(LENGTHS, causal=causal)(*inputs, sliding_window=window)
    cut = zip(*(part.split(LENGTHS) for part in inputs), strict=True)
    wanted = [defined(q, k, v, visible(len(q), causal, window)) for q, k, v in cut]
    compare(found, torch.cat(wanted), inputs)
    with torch.no_grad():
        assert_near(Asking(LENGTHS, causal=causal)(*inputs, sliding_window=window), torch.cat(wanted), 1e-5)


def as_torchs_kernel(q: Tensor, k: Tensor, v: Tensor, *cuts_and_longest: Any, **options: Any) -> Tensor:
    """torch's varlen_attn as its documentation has it: a window (left, right), -1 for no end."""
    cuts, again, longest, _ = cuts_and_longest
    assert cuts is again
    assert (cuts.dtype, longest) == (torch.int32, max(LENGTHS))
    assert options["enable_gqa"] == (q.shape[1] != k.shape[1])
    assert options["scale"] == SIZE**-0.5
    left, right = options["window_size"]
    found = []
    for start, stop in zip(cuts.tolist(), cuts.tolist()[1:], strict=False):
        ahead = torch.arange(stop - start)[:, None] - torch.arange(stop - start)[None, :]
        seen = ((ahead <= left) | (left < 0)) & ((ahead >= -right) | (right < 0))
        found.append(defined(q[start:stop], k[start:stop], v[start:stop], seen))
    return torch.cat(found)


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 4), (True, 4)])
def test_torchs_kernel_is_asked_for_the_same(
    monkeypatch: pytest.MonkeyPatch, causal: bool, window: int | None, shared: int
) -> None:
    inputs = parts(LENGTHS, shared)
    wanted = Asking(LENGTHS, causal=causal)(*inputs, sliding_window=window)
    monkeypatch.setattr(attention, "takes_kernel", lambda q, v: True)
    monkeypatch.setattr(attention, "kernel", lambda: as_torchs_kernel)
    found = Asking(LENGTHS, causal=causal)(*inputs, sliding_window=window)
    compare(found, wanted, inputs)


def test_torchs_kernel_is_for_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = torch.zeros(4, HEADS, SIZE, dtype=torch.bfloat16, device="meta")
    for generation, wanted in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        attention.has_kernel.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=generation: found)
        assert attention.takes_kernel(there, there) is wanted
    assert not attention.takes_kernel(there.float(), there.float())
    assert not attention.takes_kernel(there[..., :6], there[..., :6])
    assert not attention.takes_kernel(torch.zeros(4, HEADS, SIZE).bfloat16(), torch.zeros(4, HEADS, SIZE).bfloat16())
    attention.has_kernel.cache_clear()


@pytest.mark.parametrize("lengths", [(48,), (48, 48), (33, 48)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_dropped_weights_answer_nothing_and_learn_nothing(causal: bool, lengths: tuple[int, ...]) -> None:
    q, k, _ = inputs = parts(lengths)
    rate = 0.25
    # Where every value is a unit vector, the answer is the weights: that shows which were dropped.
    places = torch.cat([torch.eye(48)[:length] for length in lengths])[:, None].expand(-1, HEADS, -1)
    masks = (Asking(lengths, causal=causal)(q, k, places, dropout=rate) != 0).split(lengths)
    found = Asking(lengths, causal=causal)(*inputs, dropout=rate)
    wanted = []
    for i, (a, b, c) in enumerate(zip(*(part.split(lengths) for part in inputs), strict=True)):
        kept = masks[i].transpose(0, 1)[..., : len(a)].float() / (1 - rate)
        wanted.append(defined(a, b, c, visible(len(a), causal, None), kept))
    compare(found, torch.cat(wanted), inputs)
    seen = torch.cat([visible(length, causal, None).flatten().repeat(HEADS) for length in lengths])
    kept = torch.cat([mask.transpose(0, 1)[..., : len(mask)].flatten() for mask in masks])
    assert abs(float(kept[seen].float().mean()) - (1 - rate)) < 0.02


def test_the_next_draws_are_others() -> None:
    asking, (q, k, v) = Asking((48,)), parts((48,))
    assert not torch.equal(asking(q, k, v, dropout=0.25), asking(q, k, v, dropout=0.25))


@pytest.mark.parametrize("asked", ["softcap", "s_aux", "position_bias"])
def test_what_it_does_not_have_is_refused(asked: str) -> None:
    with pytest.raises(BackboneError, match=f"Asking asks attention for {asked}, .* must say packed = false"):
        Asking((5,))(*parts((5,)), **{asked: torch.zeros(1)})


def test_a_mask_is_refused() -> None:
    attention.register()
    function: Any = attention.ALL_ATTENTION_FUNCTIONS[attention.NAME]
    part = torch.zeros(1, 2, 5, 4)
    with pytest.raises(BackboneError, match="Asking asks attention for a mask of its own"):
        function(Asking((5,)), part, part, part, torch.zeros(1, 1, 5, 5))
