"""`bitfit`: the biases of the encoder, all or some (Ben Zaken and others, 2022).

Chosen terms train with the pooler's bias, as in the authors' code: `bitfit[b_q]`. `bitfit[b_q,no-pooler]` leaves it
out, and so do layers after an @. `bitfit[auto:0.04%]` and `bitfit[auto:5000]` spend a budget on what brings most.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from torch import nn

from bitfit.backbone.anatomy import SYMBOLS, Term, terms
from bitfit.backbone.architectures import known_roles
from bitfit.errors import RequestError, nearest
from bitfit.methods.budget import Scored, choose_terms, ranked, size_of_budget
from bitfit.methods.family import Family, layer_count
from bitfit.methods.name import MethodName
from bitfit.methods.selection import Slot

AUTO = "auto:"
ALL_BUT = "all-but-"
POOLER, NO_POOLER = "pooler", "no-pooler"


class BitFit(Family):
    """Every bias of the encoder, or those of the terms and layers named."""

    shares_a_pass = True
    is_bias_method = True

    def __post_init__(self) -> None:
        if self.budget is None:
            check_terms(self.name)

    @property
    def budget(self) -> str | None:
        """What follows `auto:` where the terms are to be chosen on a task's data: "0.04%" or "5000"."""
        first = self.name.terms[0] if len(self.name.terms) == 1 else ""
        return first.removeprefix(AUTO) if first.startswith(AUTO) else None

    @property
    def reads_data(self) -> bool:
        return self.budget is not None

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        del seed
        return bias_slots(model, self.name)

    def count(self, model: nn.Module) -> int:
        return super().count(model) if self.budget is None else size_of_budget(model, self.name, self.budget)

    def check(self, model: nn.Module) -> None:
        self.count(model)

    def choose(self, model: nn.Module, scores: Sequence[Scored]) -> list[Slot]:
        """The terms that the budget buys, in the order of their gradients."""
        assert self.budget is not None
        chosen = choose_terms(ranked(scores), size_of_budget(model, self.name, self.budget))
        bought = {(term.name, term.part) for term in chosen}
        return [slot for slot in bias_slots(model, MethodName("bitfit")) if (slot.name, slot.part) in bought]


def check_terms(name: MethodName) -> None:
    """Refuse terms in brackets that no model has, or that contradict one another."""
    if {POOLER, NO_POOLER} <= set(name.terms):
        raise RequestError(f"'{name.text}' asks for the pooler and leaves it out. Give one of the two.")
    words = _words(known_roles())
    for word in sorted(_wanted(name) | _left_out(name)):
        if word not in words:
            raise RequestError(f"'{name.text}' names no term: '{word}'. {nearest(word, words)}")
    if twice := {words[word] for word in _wanted(name)} & {words[word] for word in _left_out(name)}:
        raise RequestError(f"'{name.text}' asks for {min(twice)} and leaves it out. Give one of the two.")


def bias_slots(model: nn.Module, name: MethodName) -> list[Slot]:
    """The biases of the terms and layers that a name asks for."""
    biases = [term for term in terms(model) if term.role != "head"]
    if not biases:
        raise RequestError(
            f"'{name.text}' trains biases, and {type(model).__name__} has none in its encoder. "
            "'added-bias' puts new ones on its layers."
        )
    layers = name.chosen_layers(layer_count(model)) if name.layers else None  # None: what lies outside them too
    roles = _roles(name, biases)
    chosen = [term for term in biases if term.role in roles and (layers is None or term.layer in layers)]
    if not chosen:
        raise RequestError(
            f"'{name.text}' matches no bias: {', '.join(sorted(roles))} has none in these layers. {_listing(biases)}"
        )
    return [Slot.of_term(model, term) for term in chosen]


def _roles(name: MethodName, biases: Iterable[Term]) -> set[str]:
    """The roles that the terms in brackets stand for."""
    known = {term.role for term in biases}
    words, wanted, left_out = _words(known), _wanted(name), _left_out(name)
    for word in sorted(wanted | left_out):
        if word not in words:
            raise RequestError(f"'{name.text}' names no term of this model: '{word}'. {nearest(word, words)}")
    roles = {words[word] for word in wanted} | ({POOLER} & known) if wanted else known
    return roles - {words[word] for word in left_out} - ({POOLER} if NO_POOLER in name.terms else set())


def _words(roles: AbstractSet[str]) -> dict[str, str]:
    """What a term may be called, by role or by the paper's symbol -> its role."""
    symbols = {symbol: role for role, symbol in SYMBOLS.items() if role in roles}
    return {role: role for role in sorted(roles)} | symbols


def _wanted(name: MethodName) -> set[str]:
    return {word for word in name.terms if not word.startswith(ALL_BUT) and word != NO_POOLER}


def _left_out(name: MethodName) -> set[str]:
    return {word.removeprefix(ALL_BUT) for word in name.terms if word.startswith(ALL_BUT)}


def _listing(biases: Iterable[Term]) -> str:
    roles = dict.fromkeys(term.symbol or term.role for term in biases)
    return f"The model has: {', '.join(roles)}."
