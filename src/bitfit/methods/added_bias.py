"""`added-bias`: new bias vectors on layers that have none, zero at the start.

So the first answers equal the backbone's to the bit. Linear layers and layer norms inside the encoder's layers get
one; RMS norms do not, since their layer has no place to add it.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from bitfit.backbone.anatomy import sites
from bitfit.backbone.heads import OwnTask, own_task_model
from bitfit.backbone.load import quiet
from bitfit.errors import RequestError
from bitfit.methods.bitfit import bias_slots, check_terms
from bitfit.methods.family import InsertingFamily
from bitfit.methods.insertion import Undo
from bitfit.methods.selection import Slot

# What a configuration says so that a bias-free architecture has biases.
BIAS_SETTINGS = {
    "llama": ("attention_bias", "mlp_bias"),
    "modernbert": ("attention_bias", "mlp_bias", "norm_bias"),
}


class AddedBias(InsertingFamily):
    """New biases, of all terms and layers or of those named."""

    shares_a_pass = True

    def __post_init__(self) -> None:
        check_terms(self.name)

    def put_in(self, model: nn.Module) -> Undo:
        modules = dict(model.named_modules())
        free = [site for site in sites(model) if site.layer is not None and _lacks_bias(modules[site.name])]
        if not free:
            raise RequestError(
                f"'{self.name.text}' puts biases on layers without one; in {type(model).__name__} every layer has its "
                "own. 'bitfit' trains those."
            )
        chosen = [modules[site.name] for site in free]
        for module in chosen:
            weight = module.weight
            assert isinstance(weight, nn.Parameter)
            zeros = torch.zeros(weight.shape[0], device=weight.device)
            module.register_parameter("bias", nn.Parameter(zeros, requires_grad=False))
        return lambda: _take_away(chosen)

    def start(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        del name, generator
        return torch.zeros(shape)

    def slots(self, model: nn.Module, seed: int) -> list[Slot]:
        """Those of the new vectors that were asked for: the others stay zero and are not saved."""
        del seed
        new = set(self.inserted(model))
        chosen = [slot for slot in bias_slots(model, self.name) if slot.name in new]
        if not chosen:
            raise RequestError(
                f"'{self.name.text}' matches no new vector: those layers have biases of their own, which 'bitfit' "
                "trains."
            )
        return chosen

    def maybe_get_ordinary(self, model: PreTrainedModel) -> PreTrainedModel | None:
        """With biases wherever the architecture can have them; new ones are zero."""
        return with_biases(model)


def with_biases(model: PreTrainedModel) -> PreTrainedModel | None:
    """The same model built with biases where its configuration can ask for them, zero where it had none; None where
    it has a bias that the configuration cannot ask for."""
    if model.config.model_type not in BIAS_SETTINGS:
        return None
    config = copy.deepcopy(model.config)
    for setting in BIAS_SETTINGS[config.model_type]:
        setattr(config, setting, True)
    with torch.device("meta"), quiet():
        roomy = own_task_model(config, model.head) if isinstance(model, OwnTask) else type(model)(config)
    state, known = model.state_dict(), dict(roomy.named_parameters())
    if any(name not in known for name, _ in model.named_parameters()):
        return None
    for name, parameter in known.items():
        if name not in state and name.endswith(".bias"):
            state[name] = torch.zeros(parameter.shape)
    roomy.load_state_dict(state, assign=True)
    return roomy


def _lacks_bias(module: nn.Module) -> bool:
    """Whether a layer could add a bias and has none."""
    parameters = module._parameters
    known = type(module) in (nn.Linear, nn.LayerNorm)
    return known and parameters.get("weight") is not None and parameters.get("bias") is None


def _take_away(modules: list[nn.Module]) -> None:
    for module in modules:
        module.register_parameter("bias", None)
