"""Any number of labels: by every method, and on real texts, questions of an article and what their answers are."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import bitfit
from bitfit.training.baselines import PROBE, TFIDF
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

METHODS = ("full", "frozen", "layernorm", "ia3", "lora", "houlsby", "diff-pruning", "random-uniform")
SQUAD = Path(__file__).parents[3] / "shared" / "data" / "squad"
ARTICLES, ROWS = 6, 1500


def questions() -> list[dict[str, Any]]:
    """Questions with the article that they are of, and whether a number or a long text answers them; some have none."""
    [path] = sorted(SQUAD.rglob("*train*.parquet"))[:1]
    table = pq.read_table(path, columns=["title", "question", "answers"]).to_pylist()
    titles = [title for title, _ in Counter(row["title"] for row in table).most_common(2 * ARTICLES)]
    rows = [row for row in table if row["title"] in titles]
    return [{"text": row["question"], "labels": _labels(row, titles[:ARTICLES])} for row in rows][:: len(rows) // ROWS]


def _labels(row: dict[str, Any], titles: list[str]) -> list[str]:
    answer = row["answers"]["text"][0]
    found = [row["title"]] if row["title"] in titles else []
    found += ["number"] if any(letter.isdigit() for letter in answer) else []
    return found + (["long"] if len(answer.split()) > 4 else [])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_its_thresholds_in_the_file(method: str, tmp_path: Path) -> None:
    if method == "lora":
        pytest.importorskip("peft", reason="the extra 'peft' is not installed")
    backbone, data = tiny_backbone("bert"), tiny_data("labels", validation=60)
    config = bitfit.TrainConfig(epochs=1, batch_size=8, learning_rate=1e-3, precision="fp32")
    delta = bitfit.train(backbone, data, method, config, baselines=False).delta
    delta.save(tmp_path / "labels.safetensors")
    again = bitfit.Delta.load(tmp_path / "labels.safetensors")
    again.verify(backbone)
    assert again.thresholds == delta.thresholds
    assert len(again.thresholds or ()) == 3
    found = bitfit.evaluate(backbone, again, data, "test", precision="fp32")
    assert found == pytest.approx(dict(delta.scores["test"]), abs=1e-3)


@pytest.mark.real
@pytest.mark.skipif(not SQUAD.is_dir(), reason="the data sets for evaluation are not beside the checkout")
def test_minilm_learns_them_and_keeps_its_word_on_other_texts() -> None:
    try:
        backbone = bitfit.load("minilm")
    except bitfit.errors.MissingExtraError:
        pytest.skip("the extra 'demo' is not installed")
    rows = questions()
    data = {"train": rows[::2], "validation": rows[1::4], "test": rows[3::4]}
    run = bitfit.train(backbone, data, epochs=5)
    assert run.delta.task.kind == "labels"
    assert len(run.delta.task.labels) == ARTICLES + 2
    assert run.scores["test"]["micro_f1"] > 0.75
    assert run.scores["test"]["mean_average_precision"] > 0.75
    assert run.scores["validation"]["micro_f1"] > max(run.baselines[PROBE], run.baselines[TFIDF])
    assert bitfit.evaluate(backbone, run.delta, data, "test") == pytest.approx(run.scores["test"], abs=0.01)
