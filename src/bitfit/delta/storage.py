"""A delta's bytes: one safetensors file, checked before it is believed; cannot read the document.

The layout is safetensors': eight bytes of header length (little-endian), a JSON header that gives the type,
shape and offsets of each tensor, then the tensors end to end. The metadata key "bitfit" holds our document.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as make_safetensors

from bitfit import files
from bitfit.errors import DeltaError

DOCUMENT_KEY = "bitfit"
LENGTH_BYTES = 8
# A full fine-tuning of a large model needs about 100 KB of header; a thousand label names as much again.
HEADER_LIMIT = 8 * 2**20
ITEM_BYTES = {"F32": 4, "I32": 4, "I64": 8}
MOST_AXES = 8
# Dotted identifiers; a part of a parameter adds a suffix after a colon. No slash, no blank, no "..".
PLAIN_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9_.:-]{0,299}")


@dataclass(frozen=True)
class Contents:
    """What a file holds: the document's text and the tensors by name."""

    document: str
    tensors: Mapping[str, NDArray[Any]]


def pack(contents: Contents) -> bytes:
    """The file's bytes: the same contents always give the same bytes."""
    tensors = {name: np.ascontiguousarray(contents.tensors[name]) for name in sorted(contents.tensors)}
    data: bytes = make_safetensors(tensors, {DOCUMENT_KEY: contents.document})
    return data


def unpack(data: bytes) -> Contents:
    """The contents of a file's bytes, or a DeltaError that says what is wrong with them."""
    document = _document(_header(data[: LENGTH_BYTES + HEADER_LIMIT], len(data)))
    try:
        return Contents(document, read_safetensors(data))
    except (SafetensorError, ValueError, MemoryError) as error:
        raise DeltaError(f"The tensors cannot be read: {error}.") from error


def read(path: Path) -> Contents:
    """The contents of a file. The header is checked before the rest is read."""
    if not path.is_file():
        raise DeltaError("There is no such file." if not path.exists() else "It is not a regular file.")
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH_BYTES + HEADER_LIMIT)
            _document(_header(start, os.fstat(file.fileno()).st_size))
            return unpack(start + file.read())
    except (OSError, MemoryError) as error:
        raise DeltaError(f"It cannot be read: {error}.") from error


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: anybody sees the old file or the new one, also after a crash."""
    try:
        files.write_whole(path, [data])
    except OSError as error:
        raise DeltaError(f"{path} cannot be written: {error.strerror or error}.") from error


def parse_json(text: str | bytes) -> Any:
    """JSON as the standard has it: no NaN, no infinity, no key twice, no half characters."""
    try:
        value = files.strict_json(text)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair cannot be encoded
    except (ValueError, RecursionError) as error:
        raise DeltaError(f"It holds broken JSON: {str(error)[:200]}.") from error
    return value


def _header(start: bytes, size: int) -> dict[str, Any]:
    """The JSON header of a file of `size` bytes that begins with `start`."""
    if size < LENGTH_BYTES:
        raise DeltaError(f"It is cut off or no delta file: {size} bytes, too short for a header.")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] not in (b"{", b""):
        raise DeltaError("It is not a safetensors file, so no delta. (It may be a checkpoint of another kind.)")
    if length > HEADER_LIMIT:
        raise DeltaError(f"Its header claims {length:,} bytes; at most {HEADER_LIMIT:,} are read.")
    if LENGTH_BYTES + length > size:
        raise DeltaError(f"It is cut off: the header has {length:,} bytes, the file {size:,}.")
    header = parse_json(start[LENGTH_BYTES : LENGTH_BYTES + length])
    if not isinstance(header, dict):
        raise DeltaError("Its header is not a JSON object, so this is no safetensors file.")
    _check_offsets(header, size - LENGTH_BYTES - length)
    return header


def _check_offsets(header: Mapping[str, Any], room: int) -> None:
    """Every tensor has a plain name, a known type and offsets; together they fill the `room` without gaps."""
    offsets = sorted(_offsets_of(name, entry) for name, entry in header.items() if name != "__metadata__")
    expected = 0
    for start, stop, name in offsets:
        if start != expected:
            raise DeltaError(f"Tensor {name!r} begins at byte {start:,}; {expected:,} was expected.")
        expected = stop
    if expected > room:
        raise DeltaError(f"It is cut off: its tensors need {expected:,} bytes, {room:,} are there.")
    if expected < room:
        raise DeltaError(f"{room - expected:,} bytes follow the last tensor; a delta ends there.")


def _offsets_of(name: str, entry: Any) -> tuple[int, int, str]:
    """The (start, stop, name) of one tensor, after its header entry has been checked."""
    if not PLAIN_NAME.fullmatch(name):
        raise DeltaError(f"A tensor's name is not a plain parameter name: {name[:80]!r}.")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise DeltaError(f"Tensor {name!r} needs dtype, shape and data_offsets, and nothing else.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise DeltaError(f"Tensor {name!r} has the type {str(dtype)[:40]!r}; a delta holds {list(ITEM_BYTES)}.")
    if not is_counts(shape) or len(shape) > MOST_AXES:
        raise DeltaError(f"Tensor {name!r} has the shape {str(shape)[:80]}, which is none.")
    if not is_counts(offsets) or len(offsets) != 2:
        raise DeltaError(f"Tensor {name!r} has the offsets {str(offsets)[:80]}, which are none.")
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise DeltaError(f"Tensor {name!r} needs {needed:,} bytes for its shape; its offsets say otherwise.")
    return offsets[0], offsets[1], name


def is_counts(value: Any) -> bool:
    """A JSON list of whole numbers from 0 up (JSON's true and false are no numbers)."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**62 for item in value)


def _document(header: Mapping[str, Any]) -> str:
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get(DOCUMENT_KEY), str):
        raise DeltaError(
            "It is a safetensors file, but no delta: its metadata has no 'bitfit' document. "
            "Deltas are written by `Delta.save` and `bitfit train`."
        )
    if set(metadata) != {DOCUMENT_KEY}:
        raise DeltaError(f"Its metadata holds more than the 'bitfit' document: {sorted(metadata)}.")
    document: str = metadata[DOCUMENT_KEY]
    return document
