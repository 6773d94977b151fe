"""Which device a model runs on, and how tensors get there."""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bitfit.errors import RequestError, nearest

Device = Literal["auto", "cpu", "cuda"]
CPU = torch.device("cpu")


def chosen_device(asked: Device) -> torch.device:
    """The device that is asked for; with `auto` a GPU that torch can use, where there is one."""
    if asked not in get_args(Device):
        raise RequestError(f"Unknown device '{asked}'. {nearest(asked, get_args(Device))}")
    available = asked != "cpu" and torch.cuda.is_available()
    if asked == "cuda" and not available:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise RequestError(
            f"The device 'cuda' was asked for, but torch {torch.__version__}, {build}, finds no GPU. Install a torch "
            "with CUDA and a driver that fits it (https://pytorch.org/get-started), or choose `device='cpu'`."
        )
    return torch.device("cuda", torch.cuda.current_device()) if available else CPU


def as_tensor(numbers: ArrayLike, device: torch.device) -> Tensor:
    """Numbers of the host as a tensor there."""
    return to_device(torch.from_numpy(np.asarray(numbers)), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on that device. A GPU takes it from page-locked memory, and the host does not wait."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
