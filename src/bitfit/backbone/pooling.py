"""How a model was made to turn a text into one vector, as its folder may say."""

import json
import logging
from pathlib import Path
from typing import Any, TypeGuard

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from bitfit.backbone.heads import Pool
from bitfit.hub import UNREACHABLE, HubModel, hub_answers

log = logging.getLogger(__name__)

CHAIN = "modules.json"  # the modules that a text goes through, each with its folder
_MODES: dict[str, Pool] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "first",  # the summary token of models that read left to right
    "mean": "mean",
    "cls": "first",
    "lasttoken": "first",
}


def made_for(source: Path | HubModel) -> Pool:
    """What a head should read: as the model's folder says, else the architecture's own summary token."""
    chain = _read(source, CHAIN)
    pooling = next((module for module in chain if _is_pooling(module)), None) if isinstance(chain, list) else None
    if pooling is None:
        return "first"
    modes = _asked(_read(source, f"{pooling['path']}/config.json"))
    pools = [_MODES.get(mode) for mode in modes]
    if len(pools) == 1 and pools[0] is not None:
        return pools[0]
    log.info("its sentences are made by %s, which no head reads: the first token's is read", " and ".join(modes))
    return "first"


def _is_pooling(module: Any) -> TypeGuard[dict[str, str]]:
    """The type is a class's full name, and the packages before it have moved with the versions."""
    if not isinstance(module, dict) or not isinstance(module.get("path"), str):
        return False
    return str(module.get("type")).rpartition(".")[2] == "Pooling"


def _asked(settings: Any) -> list[str]:
    """The modes that are on: one word or a list of them in newer files, a switch for each in older ones."""
    if not isinstance(settings, dict):
        return ["an unreadable setting"]
    if named := settings.get("pooling_mode"):
        return [str(name) for name in named] if isinstance(named, list) else [str(named)]
    return [name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True]


def _read(source: Path | HubModel, file: str) -> Any:
    """A JSON file beside the model; None where there is none that can be read."""
    path = source / file if isinstance(source, Path) else _maybe_fetch(source, file)
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _maybe_fetch(model: HubModel, file: str) -> Path | None:
    """From the cache, which also remembers that a model has no such file; else from the hub."""
    revision, folder = model.revision or "main", model.cache_dir
    cached = try_to_load_from_cache(model.name, file, cache_dir=folder, revision=revision)
    if cached is not None or not hub_answers():
        return Path(cached) if isinstance(cached, str) else None
    try:
        return Path(hf_hub_download(model.name, file, cache_dir=folder, revision=revision, token=model.token))
    except (EntryNotFoundError, HfHubHTTPError, *UNREACHABLE):
        return None
