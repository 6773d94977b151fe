"""The longest text of a model: it is read, and a longer one is not."""

import pytest
import torch
from transformers import PreTrainedModel

from bitfit.backbone.load import longest_text
from tests.models import ARCHITECTURES, PLACES, inputs, tiny

UNLIMITED = ("gpt_neox", "bloom", "llama", "qwen2", "modernbert", "t5")  # rotary, or by distance
BEHIND_PADDING = {"roberta": 1, "xlm-roberta": 1, "camembert": 1, "mpnet": 2}  # rows that no text uses


def reads(model: PreTrainedModel, pieces: int) -> bool:
    try:
        with torch.no_grad():
            model(**inputs(model.config.model_type, (pieces,)))
    except (IndexError, RuntimeError):  # from the table itself, or from the places laid beside the pieces
        return False
    return True


@pytest.mark.parametrize("model_type", [name for name in ARCHITECTURES if name not in ("vit", *UNLIMITED)])
def test_the_longest_text_is_read_and_no_longer_one(model_type: str) -> None:
    model = tiny(model_type)
    longest = longest_text(model)
    assert longest == PLACES - BEHIND_PADDING.get(model_type, 0)
    assert reads(model, longest)
    assert not reads(model, longest + 1)


@pytest.mark.parametrize("model_type", ["vit", *UNLIMITED])
def test_models_without_a_table_of_places_have_no_longest(model_type: str) -> None:
    model = tiny(model_type)
    assert longest_text(model) is None
    assert model_type in ("vit", "t5") or reads(model, PLACES + 1)
