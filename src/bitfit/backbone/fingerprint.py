"""What identifies a backbone: a digest of its weights, settings and tokenizer."""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
import transformers
from torch import nn

from bitfit.files import cache_folder, write_whole

_FORMAT = "1"  # change it when what is hashed changes, so that remembered digests are forgotten


def fingerprint(model: nn.Module) -> str:
    """The SHA-256 over every weight's name, shape and bytes, in the model's own order."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name}\0{tuple(parameter.shape)}\0{parameter.dtype}\0".encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def file_digest(path: Path) -> str:
    """The SHA-256 of one file's bytes, remembered while its size and time stay the same."""
    return remembered("file", [path], lambda: _hash_file(path))


def remembered(kind: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """The answer of `compute`, kept on disk for as long as path, size and time of all files stay the same."""
    note = cache_folder() / "fingerprints" / f"{_key(kind, files)}.json"
    try:
        answer = json.loads(note.read_text())["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        answer = None
    if isinstance(answer, str):
        return answer
    answer = compute()
    with suppress(OSError):  # a folder that cannot be written costs the next load time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, [json.dumps({"answer": answer}).encode()])
    return answer


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(kind: str, files: Iterable[Path]) -> str:
    # Weights that a checkpoint lacks are drawn by torch, as transformers says: both versions count.
    parts = [_FORMAT, kind, torch.__version__, transformers.__version__]
    for path in sorted({file.resolve() for file in files}):
        status = path.stat()
        parts.append(f"{path}:{status.st_size}:{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
