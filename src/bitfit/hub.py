"""The hub: whether it can be reached, a model's copy in its cache, and why one could not be fetched."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# In the order in which transformers looks: the weights in one file, or an index that names the files that they are in.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
UNREACHABLE = (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError)


def hub_answers() -> bool:
    """A quick look, since the hub's own client waits half a minute before it gives up."""
    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # a proxy resolves names that this machine cannot
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return False
    return True


@contextmanager
def asked_once() -> Iterator[None]:
    """Inside, the hub's client looks in its cache alone where the hub cannot be reached."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@dataclass(frozen=True)
class HubModel:
    """A model's name on the hub, and how it is asked for."""

    name: str
    revision: str | None = None  # a branch, a tag or a commit; None: the main branch
    token: str | bool | None = None
    cache_dir: Path | None = None  # None: the hub's own

    @property
    def options(self) -> dict[str, Any]:
        """What transformers is told beside the name."""
        return {"revision": self.revision or "main", "token": self.token, "cache_dir": self.cache_dir}

    def maybe_get_cached(self) -> Path | None:
        """The folder of its copy in the cache, whole or not; asks nobody. ValueError where no hub has such a name."""
        try:
            config = try_to_load_from_cache(
                self.name, "config.json", cache_dir=self.cache_dir, revision=self.revision or "main"
            )
        except HFValidationError as error:
            raise ValueError(self.name) from error
        return Path(config).parent if isinstance(config, str) else None


def has_all_weights(folder: Path) -> bool:
    """Whether a copy has every file of its weights; a download that was interrupted has an index and a few of them."""
    return any((folder / name).is_file() for name in WEIGHTS) or any(
        (folder / name).is_file() and all((folder / shard).is_file() for shard in _shards(folder / name))
        for name in INDEXES
    )


def why_not_fetched(error: BaseException, model: HubModel) -> str | None:
    """What the hub's refusal means, in words; None where it is about something else."""
    chain = list(_causes(error))
    asked = f"'{model.name}'" + (f" at the revision '{model.revision}'" if model.revision else "")
    if any(isinstance(cause, GatedRepoError) for cause in chain):
        return (
            f"{asked} may be read by those alone who accepted its terms on the hub. Accept them, and give a token: "
            "`token=...`."
        )
    if any(isinstance(cause, RevisionNotFoundError) for cause in chain):
        return f"{asked} is not on the hub: it has no such branch, tag or commit."
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return f"{asked} is not on the hub, or it is private. Check the name, or give a token: `token=...`."
    if any(isinstance(cause, UNREACHABLE) for cause in chain):
        return unreachable(model)
    return None


def unreachable(model: HubModel) -> str:
    """What can be done without a network."""
    cached = model.maybe_get_cached()
    where = "in the local cache only in part" if cached else "neither a folder here nor in the local cache"
    asked = f"'{model.name}'" + (f" at the revision '{model.revision}'" if model.revision else "")
    return (
        f"{asked} is {where}, and without a network it cannot be fetched. Use the embedded model, 'minilm', or "
        "the path of a folder."
    )


def _shards(index: Path) -> set[str]:
    """The files that an index names; one that cannot be read names a file that is never there."""
    try:
        return set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"unreadable index"}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
