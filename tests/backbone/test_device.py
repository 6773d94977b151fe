"""The device that is asked for, or found; and tensors that nothing needs to bring there."""

import pytest
import torch

from bitfit.backbone.device import CPU, chosen_device, to_device
from bitfit.errors import RequestError
from bitfit.runtime.precision import compute_format


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch had found two and the second were the one in use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_processor_is_found() -> None:
    assert chosen_device("auto") == chosen_device("cpu") == CPU


@pytest.mark.usefixtures("a_gpu")
def test_with_a_gpu_it_is_found_unless_the_processor_is_asked_for() -> None:
    assert chosen_device("auto") == chosen_device("cuda") == torch.device("cuda", 1)
    assert chosen_device("cpu") == CPU


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("cuda", "found"), [(None, "built without CUDA"), ("12.8", "built for CUDA 12.8")])
def test_a_gpu_that_is_not_there_is_refused_with_what_was_found(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, found: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(
        RequestError, match=rf"'cuda' was asked for, but torch .*, {found}, finds no GPU.*`device='cpu'`"
    ):
        chosen_device("cuda")


def test_a_misspelt_device_is_told_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"Unknown device 'cudda'.*'cuda'"):
        chosen_device("cudda")  # type: ignore[arg-type]


@pytest.mark.parametrize(("has_it", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_is_asked_whether_it_multiplies_bf16(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, wanted: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_it and not including_emulation)
    assert compute_format("auto", torch.device("cuda", 0)) == wanted
    assert compute_format("fp32", torch.device("cuda", 0)) == torch.float32


def test_on_the_processor_a_tensor_stays_what_it_is() -> None:
    tensor = torch.ones(3)
    assert to_device(tensor, CPU) is tensor
