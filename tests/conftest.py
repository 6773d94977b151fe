"""What `make quick` leaves out beside the tests marked slow, and memory's housekeeping for all tests."""

import gc

import pytest

from bitfit.backbone.architectures import listed

# `make quick` runs one architecture of each kind, `make test` all of them.
# BERT's layers, a fused projection with causal attention, no biases, relative positions.
TYPICAL = {"bert", "gpt2", "llama", "deberta-v2"}
OTHERS = set(listed()) - TYPICAL


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        callspec = getattr(item, "callspec", None)
        values = callspec.params.values() if callspec else ()
        if any(isinstance(value, str) and value in OTHERS for value in values):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    gc.freeze()  # torch and transformers leave a million objects: looking through them again and again took a tenth
