"""What `make quick` leaves out beside the tests marked slow, and memory's housekeeping for all tests."""

import gc
from collections import Counter

import pytest

from bitfit.backbone.architectures import listed

# `make quick` runs one architecture of each kind, `make test` all of them.
# BERT's layers, a fused projection with causal attention, no biases, relative positions.
TYPICAL = {"bert", "gpt2", "llama", "deberta-v2"}
OTHERS = set(listed()) - TYPICAL
# Where cases run models, it runs the first ones of each test.
WITH_MODELS = ("runtime", "methods", "delta", "inference", "training", "experiment")
CASES = 2


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("slow"):
            continue
        test = item.nodeid.partition("[")[0]
        if _names_another_architecture(item) or (item.path.parent.name in WITH_MODELS and seen[test] >= CASES):
            item.add_marker(pytest.mark.slow)
        else:
            seen[test] += 1


def _names_another_architecture(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec else ()
    return any(isinstance(value, str) and value in OTHERS for value in values)


def pytest_collection_finish() -> None:
    gc.freeze()  # torch and transformers leave a million objects: looking through them again and again took a tenth
