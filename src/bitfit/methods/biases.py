"""Methods that let whole parameters or terms of the encoder change; knows nothing of heads."""

from collections.abc import Iterable

from torch import nn

from bitfit.backbone.anatomy import SYMBOLS, Term, is_norm, sites, terms
from bitfit.errors import RequestError, nearest
from bitfit.methods.name import MethodName
from bitfit.methods.slot import Slot

_ALL_BUT = "all-but-"


def bitfit(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    """Every bias of the encoder, or those of the terms and layers named."""
    del seed
    found = [term for term in terms(model) if term.role != "head"]
    if not found:
        raise RequestError(
            f"'{name.text}' trains biases, and {type(model).__name__} has none in its encoder. "
            "'added-bias' puts new ones on its layers."
        )
    layers = _layers(model, name)
    roles = _roles(name, found)
    chosen = [term for term in found if term.role in roles and (layers is None or term.layer in layers)]
    if not chosen:
        raise RequestError(
            f"'{name.text}' matches no bias: {', '.join(sorted(roles))} has none in these layers. {_listing(found)}"
        )
    return [_slot(model, term) for term in chosen]


def full(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    """Every parameter of the encoder; keys' biases that cannot matter stay inert, as everywhere."""
    del seed
    _no_terms(name)
    layers = _layers(model, name)
    inside = {site.name: site.layer for site in sites(model) if site.role != "head"}
    split: dict[str, list[Term]] = {}
    for term in terms(model):
        split.setdefault(term.name, []).append(term)
    found = []
    for parameter, tensor in model.named_parameters():
        module = parameter.rpartition(".")[0]
        if module not in inside or (layers is not None and inside[module] not in layers):
            continue
        whole = Slot(parameter, tuple(tensor.shape))
        found += [_slot(model, term) for term in split[parameter]] if parameter in split else [whole]
    return found


def frozen(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    """Nothing of the encoder: the head alone."""
    del model, seed
    _no_terms(name)
    if name.layers:
        raise RequestError(f"'frozen' trains no layers; found '{name.text}'.")
    return []


def layernorm(model: nn.Module, name: MethodName, seed: int) -> list[Slot]:
    """Scale and bias of every norm in the encoder."""
    del seed
    _no_terms(name)
    layers = _layers(model, name)
    modules = dict(model.named_modules())
    norms = [
        site.name
        for site in sites(model)
        if site.role != "head" and is_norm(modules[site.name]) and (layers is None or site.layer in layers)
    ]
    if not norms:
        raise RequestError(f"'{name.text}' trains norms, and {type(model).__name__} has none there.")
    return [
        Slot(parameter, tuple(tensor.shape))
        for parameter, tensor in model.named_parameters()
        if parameter.rpartition(".")[0] in norms
    ]


def layer_count(model: nn.Module) -> int:
    """How many layers the encoder has, in all its lists of layers."""
    return 1 + max((site.layer for site in sites(model) if site.layer is not None), default=-1)


def _layers(model: nn.Module, name: MethodName) -> frozenset[int] | None:
    """The layers asked for; None for the whole encoder, what lies outside the layers included."""
    return name.chosen_layers(layer_count(model)) if name.layers else None


def _roles(name: MethodName, found: Iterable[Term]) -> set[str]:
    """The roles that the terms in brackets stand for."""
    known = {term.role for term in found}
    words = {role: role for role in sorted(known)} | {symbol: role for role, symbol in SYMBOLS.items() if role in known}
    left_out = {word[len(_ALL_BUT) :] for word in name.terms if word.startswith(_ALL_BUT)}
    wanted = {word for word in name.terms if not word.startswith(_ALL_BUT)}
    for word in sorted(wanted | left_out):
        if word not in words:
            raise RequestError(f"'{name.text}' names no term of this model: '{word}'. {nearest(word, words)}")
    roles = {words[word] for word in wanted} if wanted else known
    return roles - {words[word] for word in left_out}


def _listing(found: Iterable[Term]) -> str:
    roles = dict.fromkeys(term.symbol or term.role for term in found)
    return f"The model has: {', '.join(roles)}."


def _slot(model: nn.Module, term: Term) -> Slot:
    shape = tuple(model.get_parameter(term.name).shape)
    return Slot(term.name, shape, term.index, term.inert, term.role == "head", term.part)


def _no_terms(name: MethodName) -> None:
    if name.terms:
        raise RequestError(f"'{name.family}' takes no terms in brackets; found '{name.text}'. Only 'bitfit' does.")
