"""A step on a GPU that is not there: nothing of the host meets it, and the host never waits for it."""

from dataclasses import replace

import pytest
import torch

from bitfit import TrainConfig
from bitfit.backbone.task_model import head_start
from bitfit.data.examples import TaskData
from bitfit.methods.method import Method
from bitfit.runtime.row_model import RowModel
from bitfit.training.loop import Job, Training
from bitfit.watcher import Watcher
from tests.models import BIAS_FREE, tiny_backbone
from tests.training.gpu import gpu, watched
from tests.training.test_loop import data_of

__all__ = ["gpu"]
SETTINGS = TrainConfig(batch_size=6, epochs=3, learning_rate=1e-3, precision="fp32")
PACKED = (
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "albert",
    "modernbert",
    "gpt2",
    "opt",
    "gpt_neox",
    "qwen2",
    "llama",
)


def training(
    kind: str,
    rows: int,
    device: torch.device,
    *,
    compute: torch.dtype = torch.bfloat16,
    method: str = "bitfit",
    model_type: str = "bert",
    **settings: float,
) -> Training:
    """A training that is about to make its first step."""
    data: TaskData = data_of(kind)
    backbone, head = tiny_backbone(model_type, **settings), data.task.head
    plain, inner = backbone.task_model(head), backbone.task_model(head)
    how = Method.parse(method)
    for one in (plain, inner):
        how.insert(one)
    model = RowModel(inner, head, compute, device)
    configs = tuple(replace(SETTINGS, seed=seed, clip=seed % 2) for seed in range(rows))
    own = how.first_phase(plain, model, 0, 1e-3).theta
    drawn = {**head_start(plain, 0), **how.start(plain, 0)}
    start = torch.stack([own.starting_row(drawn) for _ in configs])
    return Training(Job(model, own, data, configs, start), Watcher())


@pytest.mark.parametrize("compute", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", ["class", "labels", "number", "tags", "span"])
def test_the_host_meets_and_waits_for_nothing(gpu: torch.device, kind: str, rows: int, compute: torch.dtype) -> None:
    found = training(kind, rows, gpu, compute=compute)
    found.step()  # the first one prepares
    with watched() as seen:
        found.step()
    assert "aten.copysign_.Tensor" in seen.seen  # attention dropout was there
    assert len(found.unread) == 1
    assert all(tensor.device == gpu for tensor in found.optimizer.state().values())


@pytest.mark.slow
def test_passes_that_not_every_row_is_in(gpu: torch.device) -> None:
    found = training("class", 3, gpu)
    found.budget.tokens = 30
    with watched():
        found.step()
        found.step()


@pytest.mark.parametrize("compute", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_without_attention_dropout_torchs_kernel_attends(gpu: torch.device, compute: torch.dtype) -> None:
    found = training("class", 3, gpu, compute=compute, attention_probs_dropout_prob=0.0)
    with watched() as seen:
        found.step()
    used = {"torch_attn._varlen_attn.default", "torch_attn._varlen_attn_backward.default"} & seen.seen
    assert len(used) == (2 if compute == torch.bfloat16 else 0)  # the kernel takes 16-bit numbers alone


@pytest.mark.parametrize("method", ["full", "frozen", "layernorm", "random-uniform", "houlsby", "diff-pruning"])
def test_every_method_steps(gpu: torch.device, method: str) -> None:
    found = training("class", 1, gpu, method=method)
    with watched():
        found.step()
        found.step()


@pytest.mark.parametrize("model_type", [*PACKED, "deberta-v2"])
def test_every_architecture_steps(gpu: torch.device, model_type: str) -> None:
    method = "added-bias" if model_type in BIAS_FREE else "bitfit"
    found = training("class", 1, gpu, method=method, model_type=model_type)
    with watched():
        found.step()


def test_the_backbone_stays_where_it_was(gpu: torch.device) -> None:
    backbone = tiny_backbone("bert")
    head = data_of("class").task.head
    model = RowModel(backbone.task_model(head), head, torch.bfloat16, gpu)
    modules = (model.encoder.model, model.head_runner.model)
    assert {tensor.device for module in modules for tensor in module.state_dict(keep_vars=True).values()} == {gpu}
    assert not any(parameter.is_meta for parameter in backbone.model.parameters())
    assert backbone.has_weights


def test_losses_read_a_step_late_are_the_same_losses() -> None:
    late, at_once = (training("tags", 3, torch.device("cpu")) for _ in range(2))
    late.behind = 1
    late.run()
    at_once.run()
    assert late.progress == at_once.progress
    assert torch.equal(late.best, at_once.best)
    assert not late.unread


def test_where_a_model_runs_does_not_tell_one_run_from_another() -> None:
    assert TrainConfig(device="cpu").to_json() == TrainConfig().to_json()


def test_memory_that_runs_out_on_a_gpu_halves_the_passes(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    found = training("class", 1, gpu)
    whole, answers = found.budget.tokens, found.job.model.answers
    failed = iter([True])

    def short(*arguments: object) -> torch.Tensor:
        if next(failed, False):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return answers(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(found.job.model, "answers", short)
    found.step()
    assert found.budget.tokens == whole // 2
