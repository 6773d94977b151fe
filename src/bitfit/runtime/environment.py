"""What a result depends on beside its settings: versions, threads, device, number format."""

import platform
from importlib.metadata import version
from typing import Any

import torch

from bitfit import __version__
from bitfit.runtime.precision import FORMATS


def versions() -> dict[str, str]:
    """Versions of the packages that decide what is computed."""
    return {"bitfit": __version__, **{name: version(name) for name in ("torch", "transformers")}}


def environment() -> dict[str, Any]:
    """What a figure depends on beside its settings."""
    return {**versions(), "python": platform.python_version(), "threads": torch.get_num_threads()}


def surroundings(compute: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What may change a result's last bits beside the request."""
    formats = {form: name for name, form in FORMATS.items()}
    return {**versions(), "threads": torch.get_num_threads(), "compute": formats[compute], "device": device.type}
