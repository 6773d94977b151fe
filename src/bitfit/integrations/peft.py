"""A `lora` delta as a PEFT adapter folder, and back.

The folder is what `PeftModel.from_pretrained` reads: adapter_config.json and adapter_model.safetensors. PEFT leaves
its name for the adapter out of the file's keys, and puts its own two levels of the tree before them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as make_safetensors
from transformers import PreTrainedModel

from bitfit.backbone.anatomy import SYMBOLS, sites
from bitfit.backbone.heads import PER_TEXT, head_names
from bitfit.backbone.load import Backbone
from bitfit.data.task import Task
from bitfit.delta.delta import Delta
from bitfit.errors import DeltaError, RequestError
from bitfit.files import new_folder
from bitfit.methods.lora import ADAPTER, FUSED, Lora
from bitfit.methods.method import Method

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TREE = "base_model.model."
KINDS = {**dict.fromkeys(PER_TEXT, "SEQ_CLS"), "tags": "TOKEN_CLS", "span": "QUESTION_ANS"}
# Settings that change what an adapter computes; others are fine as long as they are off.
UNKNOWN = ("use_dora", "use_rslora", "fan_in_fan_out_pattern", "rank_pattern", "alpha_pattern", "layer_replication")

Arrays = dict[str, NDArray[np.float32]]


def write_adapter(delta: Delta, backbone: Backbone, folder: str | Path) -> Path:
    """Writes a delta of the method `lora` to a new folder that PEFT reads, whole or not at all."""
    method = Method.maybe_of(delta.method)
    lora = method.maybe_as(Lora) if method is not None else None
    if lora is None:
        raise DeltaError(f"PEFT's adapters hold what 'lora' trains; this delta's method is '{delta.method}'.")
    with new_folder(Path(folder)) as target:
        delta.check(backbone)
        model = backbone.task_model(delta.task.head)
        settings = lora.config(model)
        settings.task_type = KINDS[delta.task.kind]
        settings.modules_to_save = sorted({key.partition(".")[0] for key in head_names(model)})
        settings.base_model_name_or_path = backbone.name
        settings.inference_mode = True
        tensors = {TREE + slot.name.replace(f".{ADAPTER}.", "."): delta.values[slot.key] for slot in delta.slots}
        settings.save_pretrained(target)
        (target / WEIGHTS).write_bytes(make_safetensors(tensors, {"format": "pt"}))
    return Path(folder)


def read_adapter(folder: str | Path, backbone: Backbone, task: Task) -> Delta:
    """The delta of a PEFT adapter; the task is what the folder does not say."""
    settings, tensors = _read(Path(folder))
    model = backbone.task_model(task.head)
    method = _method(settings, tensors, model)
    method.insert(model)
    selection = method.select(model)
    values = {}
    for slot in selection.slots:
        value = tensors.pop(slot.name.replace(f".{ADAPTER}.", "."), None)
        if value is None or value.shape != slot.shape:
            actual = "no such tensor" if value is None else f"the shape {value.shape}"
            raise DeltaError(f"{folder} needs '{slot.name}' with the shape {slot.shape}; found {actual}.")
        values[slot.key] = value
    if tensors:
        raise DeltaError(f"{folder} holds tensors that 'lora' does not have: {sorted(tensors)[:3]}.")
    where = (backbone.name, backbone.fingerprint, method.name, method.head)
    settings = {} if backbone.revision is None else {"revision": backbone.revision}
    return Delta(*where, selection.slots, values, task, settings=settings)


def _read(folder: Path) -> tuple[dict[str, Any], Arrays]:
    """The two files, the tensors by the task model's names."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = read_safetensors((folder / WEIGHTS).read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise DeltaError(f"'{folder}' is no PEFT adapter: {CONFIG} and {WEIGHTS} were expected ({error}).") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise DeltaError(f"'{folder}' holds no LoRA adapter.")
    strange = [key for key in UNKNOWN if settings.get(key)] + ["bias"] * (settings.get("bias", "none") != "none")
    if strange:
        raise DeltaError(f"'{folder}' uses {', '.join(strange)}, which 'lora' here does not have.")
    return settings, {key.removeprefix(TREE): value.astype(np.float32) for key, value in tensors.items()}


def _method(settings: dict[str, Any], tensors: Arrays, model: PreTrainedModel) -> Method:
    """The method that puts pairs exactly where the adapter has them."""
    wanted = {key.partition(".lora_")[0] for key in tensors if ".lora_" in key}
    adapted = [site for site in sites(model) if site.name in wanted]
    roles = {"query" if site.role == FUSED else site.role for site in adapted}
    layers = sorted({site.layer for site in adapted if site.layer is not None})
    words = [f"r={settings.get('r')}", f"alpha={settings.get('lora_alpha')}", *sorted(roles)]
    every = {site.layer for site in sites(model) if site.layer is not None}
    where = "" if set(layers) == every else "@" + ",".join(map(str, layers))
    try:
        method = Method.parse(f"lora[{','.join(words)}]{where}")
        lora = method.maybe_as(Lora)
        if lora is not None and set(lora.targets(model)) == wanted:
            return method
    except RequestError as error:
        raise DeltaError(f"The adapter does not fit {type(model).__name__}. {error}") from error
    raise DeltaError(
        f"The adapter sits on projections of {type(model).__name__} that no 'lora' here names: the same roles "
        f"({', '.join(sorted(SYMBOLS))} ...) in each of its layers were expected."
    )
