"""Delta files of format 1, as bitfit 0.1.0 wrote them, load, apply and answer as they did then.

Beside each file stand the texts that it was asked about and what it answered, in fp32. The four hold whole parameters,
ranges of fused ones, single elements, and new layers.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import bitfit

FOLDER = Path(__file__).parent / "fixtures"
FILES = sorted(FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_old_file_answers_as_it_did(path: Path) -> None:
    then: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    backbone = bitfit.load(FOLDER / f"backbone-{then['backbone']}")
    delta = bitfit.Delta.load(path)
    assert delta.to_bytes() == path.read_bytes()
    delta.verify(backbone)
    texts = [tuple(text) if isinstance(text, list) else text for text in then["texts"]]
    found = bitfit.predict(backbone, delta, texts, "fp32")
    for answer, old in zip(found, then["answers"], strict=True):
        assert answer.value == (pytest.approx(old["value"], abs=1e-4) if delta.task.kind == "number" else old["value"])
        assert answer.scores == (None if old["scores"] is None else pytest.approx(old["scores"], abs=1e-4))


def test_there_is_one_of_each_form() -> None:
    assert {path.stem for path in FILES} == {"whole-biases", "ranges", "indices", "new-layers"}
