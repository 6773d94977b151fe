"""The hub's cache in a folder of a test's own, with nobody to ask."""

import shutil
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants


def without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From here on the hub's copies are in this folder, and asking the hub fails the test."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked"))
    return cache


def cached(hub: Path, folder: Path, commit: str, branch: str = "main", name: str = "somebody/tiny") -> Path:
    """A copy of a folder laid out as the hub's client does it."""
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    return repository / "snapshots" / commit
