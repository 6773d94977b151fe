"""Every bias of a model, named as the paper names it.

A term is an additive vector of a module, found by where the module stands and what it is. A fused
projection is several terms of one parameter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PretrainedConfig

from bitfit.backbone.architectures import UNKNOWN, Architecture, Fusion, architecture, ends, unlisted_outside
from bitfit.errors import RequestError

SYMBOLS = {
    "query": "b_q",
    "key": "b_k",
    "value": "b_v",
    "attention_output": "b_m1",
    "attention_norm": "b_LN1",
    "intermediate": "b_m2",
    "output": "b_m3",
    "output_norm": "b_LN2",
}
INERT = (
    "adding the same number to every score of a query leaves softmax as it was, so this bias has a "
    "gradient of exactly zero and does not change"
)
# Keys that meet no position: a decoder's look at the encoder, and DeBERTa's keys of the positions themselves.
_ALWAYS_INERT = ("cross_key", "position_key")


@dataclass(frozen=True)
class Term:
    """One bias vector, or the part of a fused one that belongs to one role."""

    symbol: str | None  # the paper's, None outside the layers
    role: str
    layer: int | None
    name: str  # the parameter's name in the model it was read from
    size: int
    index: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)  # None: the whole parameter
    inert: bool = False  # its gradient is exactly zero, see INERT

    @property
    def part(self) -> str:
        """What tells this term from others of the same parameter; empty for a whole one."""
        if self.index is None:
            return ""
        return f"{self.role}_still" if self.inert and self.role == "key" else self.role


@dataclass(frozen=True)
class Site:
    """One module and what it is for: where methods that add parameters put them."""

    name: str  # the module's name in the model it was read from
    role: str
    layer: int | None
    fused: Fusion | None = None


def check_model(model: object) -> None:
    """Refuse what is no model, such as the backbone around one."""
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"Expected a model, such as backbone.task_model(head) or backbone.model; found a {type(model).__name__}."
        )


def terms(model: nn.Module) -> tuple[Term, ...]:
    """Every bias of a base or a task model, in the order of its parameters; shared ones once."""
    check_model(model)
    known = {site.name: site for site in sites(model)}
    modules = dict(model.named_modules())
    config = _config(model)
    collected: list[Term] = []
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        if is_bias(modules[path], leaf, parameter):
            collected += _split(name, parameter.numel(), known[path], config)
    return tuple(collected)


def vector_terms(model: nn.Module, name: str, site: Site) -> list[Term]:
    """The terms of a vector that is added to what the module at a site gives; several for a fused projection."""
    return _split(name, model.get_parameter(name).numel(), site, _config(model))


def sites(model: nn.Module) -> tuple[Site, ...]:
    """Every module that holds parameters of its own, with its role: `other` where nobody knows."""
    prefix, base = encoder_prefix(model), encoder_of(model)
    config = _config(model)
    map_ = architecture(config.model_type) if config is not None else None
    layers = _layers(base, map_)
    listed = []
    for name, module in model.named_modules():
        if not any(value is not None for value in module._parameters.values()):
            continue
        if name.startswith(prefix):
            listed.append(_site(name, name.removeprefix(prefix), module, layers, map_))
        else:
            listed.append(Site(name, "head", None))
    return tuple(listed)


def blocks(model: nn.Module) -> tuple[Site, ...]:
    """Every layer of the encoder as a whole, with its number; one that is used again and again once."""
    config = _config(model)
    map_ = architecture(config.model_type) if config is not None else None
    prefix = encoder_prefix(model)
    return tuple(
        Site(f"{prefix}{layer.name}", "block", layer.number) for layer in _layers(encoder_of(model), map_).values()
    )


def layers_in_turn(base: nn.Module) -> tuple[str, ...]:
    """Names of a base model's layers where each runs once, after the one before it, the first after the embeddings.

    Empty where that is not known: an architecture nobody listed, several lists of layers, layers that are shared.
    """
    config = _config(base)
    map_ = architecture(config.model_type) if config is not None else None
    if config is None or map_ is None or len(map_.layers) != 1 or "*" in next(iter(map_.layers)):
        return ()
    names = tuple(_layers(base, map_))
    return names if len(names) == config.num_hidden_layers else ()


def encoder_of(model: nn.Module) -> nn.Module:
    """The pretrained encoder inside a task model; a base model is its own."""
    base = getattr(model, "base_model", model)
    return base if isinstance(base, nn.Module) else model


def encoder_prefix(model: nn.Module) -> str:
    """What the encoder's parameter names begin with in a task model, dot included; empty for a base model."""
    return "" if encoder_of(model) is model else f"{model.base_model_prefix}."


def is_bias(module: nn.Module, leaf: str, parameter: nn.Parameter) -> bool:
    """Whether a module's own parameter is a vector that the module adds, never a weight or embedding."""
    vector = leaf == "bias" or leaf.endswith("_bias")
    return vector and parameter.dim() == 1 and not isinstance(module, nn.Embedding)


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: torch's own types, or an architecture's own by their name."""
    return isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm) or type(module).__name__.endswith("Norm")


def _config(model: nn.Module) -> PretrainedConfig | None:
    config = getattr(model, "config", None)
    return config if isinstance(config, PretrainedConfig) else None


@dataclass(frozen=True)
class _Layer:
    name: str  # in the base model
    number: int
    roles: Mapping[str, str] | None  # None: nobody listed this architecture


def _layers(base: nn.Module, map_: Architecture | None) -> dict[str, _Layer]:
    """Every layer by its name in the base model, numbered through all lists of layers."""
    lists = map_.layers if map_ is not None else dict.fromkeys(_lists(base))
    layers: dict[str, _Layer] = {}
    for pattern, roles in lists.items():
        for name in _matching(base, f"{pattern}.*"):
            layers[name] = _Layer(name, len(layers), roles)
    return layers


def _lists(base: nn.Module) -> list[str]:
    """The outermost lists of modules of one type: what layers look like in an architecture nobody listed."""
    lists: list[str] = []
    for name, module in base.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not inside and len({type(child) for child in module}) == 1:
            lists.append(name)
    return lists


def _matching(base: nn.Module, pattern: str) -> list[str]:
    """Names of modules that fit a dotted pattern, in which * is any one component."""
    names = [""]
    for part in pattern.split("."):
        step = []
        for name in names:
            children = dict(base.get_submodule(name).named_children())
            wanted = list(children) if part == "*" else [part] * (part in children)
            step += [f"{name}.{child}".lstrip(".") for child in wanted]
        names = step
    return names


def _site(full: str, name: str, module: nn.Module, layers: Mapping[str, _Layer], map_: Architecture | None) -> Site:
    layer = _layer_of(name, layers)
    if layer is None:
        outside = unlisted_outside() if map_ is None else map_.outside
        return Site(full, outside.get(name, UNKNOWN), None)
    inside = name[len(layer.name) + 1 :]
    if not inside:  # the block itself, where a method gave it parameters
        return Site(full, "block", layer.number)
    if map_ is not None and inside in map_.fused:
        return Site(full, "query_key_value", layer.number, map_.fused[inside])
    role = _guess(inside, module) if layer.roles is None else layer.roles.get(inside, UNKNOWN)
    return Site(full, role, layer.number)


def _layer_of(name: str, layers: Mapping[str, _Layer]) -> _Layer | None:
    parts = name.split(".")
    prefixes = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next((layers[prefix] for prefix in prefixes if prefix in layers), None)


def _guess(inside: str, module: nn.Module) -> str:
    """The role of the longest known end of a site, if the module is of a type that can have it."""
    parts = inside.split(".")
    tails = (".".join(parts[start:]) for start in range(len(parts)))
    role = next((known for tail in tails if (known := ends().get(tail))), UNKNOWN)
    return role if role.endswith("_norm") == is_norm(module) else UNKNOWN


def _split(name: str, size: int, site: Site, config: PretrainedConfig | None) -> list[Term]:
    """The terms of one parameter: one, or those of a fused projection."""
    if site.fused is None or config is None:
        inert = site.role in _ALWAYS_INERT or (site.role == "key" and _key_is_inert(config))
        return [Term(SYMBOLS.get(site.role), site.role, site.layer, name, size, None, inert)]
    query, key, value = _thirds(size, site.fused, config.num_attention_heads)
    turned = 0 if _key_is_inert(config) else _turned(config, key.shape[1])
    parts = [
        ("query", query, False),
        ("key", key[:, :turned], False),
        ("key", key[:, turned:], True),
        ("value", value, False),
    ]
    return [
        Term(SYMBOLS[role], role, site.layer, name, part.size, np.sort(part, axis=None), inert)
        for role, part, inert in parts
        if part.size
    ]


def _thirds(size: int, fused: Fusion, heads: int) -> tuple[NDArray[np.int64], ...]:
    """Where q, k and v lie in a fused bias: three arrays of shape (heads, width of a head)."""
    every = np.arange(size, dtype=np.int64)
    if fused == "thirds":
        return tuple(every.reshape(3, heads, -1))
    return tuple(every.reshape(heads, 3, -1).swapaxes(0, 1))


def _key_is_inert(config: PretrainedConfig | None) -> bool:
    """Whether softmax cancels what a key's bias adds; False where the architecture is not known."""
    map_ = architecture(config.model_type) if config is not None else None
    if config is None or map_ is None:
        return False
    if map_.positions == "disentangled":  # a position's query meets the content's key in the p2c part alone
        return not (config.relative_attention and "p2c" in (config.pos_att_type or ()))
    return map_.positions in ("absolute", "relative")


def _turned(config: PretrainedConfig, width: int) -> int:
    """How many of a head's numbers rotary positions turn, from the first; the rest behave as if absolute."""
    rope = getattr(config, "rope_parameters", None) or {}
    return int(width * rope.get("partial_rotary_factor", 1.0))
