"""A GPU that is not there, for tests of what the host does: torch's meta device stands for it.

Its tensors have shapes and no values, so whatever looks at a value fails, and autograd runs as ever. `Watched` refuses
what a real one would refuse or wait for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bitfit.runtime import attention, dropout
from bitfit.training import progress

GPU = torch.device("meta")
aten = torch.ops.aten
# They bring a value to the host, or need one to know how large their result is.
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.repeat_interleave.Tensor,
    aten.equal.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
}
BRINGING = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default}
# A GPU's kernels of these want all floating-point tensors in one format; a processor's do not.
OF_ONE_FORMAT = {aten.native_layer_norm.default, aten.native_layer_norm_backward.default}


class Watched(TorchDispatchMode):
    """Fails where tensors of the host and of the GPU meet, where the host waits, and where a GPU has no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if tensor.device.type == GPU.type]
        if there:
            self.seen.add(str(func))
            self._check(func, tensors, there, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _check(self, func: Any, tensors: list[Tensor], there: list[Tensor], kwargs: dict[str, Any]) -> None:
        assert func not in WAITING, f"{func} makes the host wait"
        if func in BRINGING:
            device = kwargs.get("device", GPU)
            assert torch.device(device).type == GPU.type, f"{func} brings values to the host"
        # A single number of the host goes along with a kernel's other arguments; `where` would copy it, and wait.
        most = -1 if func is aten.where.self else 0
        strangers = [tensor for tensor in tensors if tensor.device.type != GPU.type and tensor.dim() > most]
        assert not strangers, f"{func}: a tensor of the host among the GPU's"
        if func in OF_ONE_FORMAT:
            assert len({tensor.dtype for tensor in there if tensor.is_floating_point()}) == 1, f"{func} of two formats"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The stand-in, with what a processor's torch has not: page-locked memory, generators, losses under way."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(dropout, "_generator", lambda seed, device: torch.Generator().manual_seed(0))
    monkeypatch.setattr(progress, "to_host", lambda values: torch.zeros(values.shape))
    monkeypatch.setattr(attention, "has_kernel", lambda device: True)
    return GPU


@contextmanager
def watched() -> Iterator[Watched]:
    """The block runs without waiting."""
    with Watched() as found:
        yield found
    assert found.seen
