"""Every family of methods by its name, as one table."""

from bitfit.errors import RequestError, nearest
from bitfit.methods.added_bias import AddedBias
from bitfit.methods.beft import Beft
from bitfit.methods.bitfit import BitFit
from bitfit.methods.diff_pruning import DiffPruning
from bitfit.methods.family import Family
from bitfit.methods.frozen import Frozen
from bitfit.methods.full import Full
from bitfit.methods.gain_and_bias import GainAndBias
from bitfit.methods.houlsby import Houlsby
from bitfit.methods.ia3 import IA3
from bitfit.methods.layernorm import LayerNorm
from bitfit.methods.lora import Lora
from bitfit.methods.name import MethodName
from bitfit.methods.random_masks import RandomLines, RandomRowsColumns, RandomUniform
from bitfit.methods.red import Red
from bitfit.methods.steer import Steer

FAMILIES: dict[str, type[Family]] = {
    "bitfit": BitFit,
    "frozen": Frozen,
    "full": Full,
    "layernorm": LayerNorm,
    "added-bias": AddedBias,
    "ia3": IA3,
    "red": Red,
    "beft": Beft,
    "steer": Steer,
    "gain-and-bias": GainAndBias,
    "random-uniform": RandomUniform,
    "random-rows-columns": RandomRowsColumns,
    "random-lines": RandomLines,
    "lora": Lora,
    "houlsby": Houlsby,
    "diff-pruning": DiffPruning,
}


def register(name: str, family: type[Family]) -> None:
    """Add a family of your own: `name`, with what may follow it in brackets and after an @, is a method from now on."""
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise RequestError(f"Expected a class made from bitfit.Family; found {family!r:.80}.")
    if missing := sorted(family.__abstractmethods__):
        raise RequestError(f"The family {family.__name__} does not say what every family must: {', '.join(missing)}.")
    if MethodName.parse(name) != MethodName(name):
        raise RequestError(f"A family's name is a word, without brackets or layers; found '{name}'.")
    if FAMILIES.get(name, family) is not family:
        raise RequestError(f"There is a method '{name}' already. Choose another name.")
    FAMILIES[name] = family


def get_family(name: MethodName) -> Family:
    """What a method's name asks for; a name that nobody knows is refused with the nearest."""
    if name.family not in FAMILIES:
        raise RequestError(f"There is no method '{name.family}'. {nearest(name.family, FAMILIES)}")
    return FAMILIES[name.family](name)
