"""A plan is run: what is there is skipped, a test is read for the chosen rate alone, a failure stops nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bitfit
from bitfit.errors import DataError, RequestError
from bitfit.experiment import runner
from bitfit.experiment.plan import Plan
from bitfit.experiment.plan_file import plan_of
from bitfit.experiment.report import report
from bitfit.experiment.runner import run_plan
from bitfit.experiment.store import Store
from bitfit.watcher import Watcher
from tests.models import VOCABULARY, tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> bitfit.Backbone:
    return tiny_backbone("bert")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder of texts whose label follows the first word."""
    draw = np.random.default_rng(3)
    folder = tmp_path / "words"
    folder.mkdir()
    for split, size in (("train", 24), ("validation", 10), ("test", 10)):
        words = draw.integers(4, VOCABULARY, (size, 5))
        lines = [f"{' '.join(f'w{word}' for word in row)},{'high' if row[0] > 30 else 'low'}" for row in words]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return folder


def words_plan(task: Path, **changed: Any) -> Plan:
    settings = {"epochs": 1, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-3}
    document = {"name": "words", "tasks": [str(task)], "methods": ["bitfit"], "seeds": [0, 1], "settings": settings}
    return plan_of(document | changed, source="name = 'words'")


def documents(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*.json"))}


class Heard(Watcher):
    """Remembers how many rows trained together, and may interrupt."""

    def __init__(self, interrupt: bool = False) -> None:
        self.rows: list[int] = []
        self.notes: list[str] = []
        self.interrupt = interrupt

    def started(self, steps: int, rows: int) -> None:
        self.rows.append(rows)

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        if self.interrupt:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_vector_methods_train_together_and_others_one_after_another(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path
) -> None:
    heard = Heard()
    outcome = run_plan(
        backbone, words_plan(task, methods=["bitfit", "random-uniform"]), tmp_path / "out", watcher=heard
    )
    assert (outcome.planned, outcome.before, outcome.done, outcome.failed) == (4, 0, 4, {})
    assert heard.rows == [2, 1, 1]
    found = documents(tmp_path / "out")
    assert set(found) == {
        f"words--{method}--0.001--seed{seed}" for method in ("bitfit", "random-uniform") for seed in (0, 1)
    }
    one = found["words--bitfit--0.001--seed1"]
    assert list(one["scores"]) == ["train", "validation", "test"]
    assert one["settings"]["seed"] == 1
    assert one["measured_on"] == {"train": 24, "validation": 10, "test": 10}
    assert one["unread"] == []
    assert set(one["changes"]["b_k"]) == {0.0}
    assert len(one["changes"]["b_q"]) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plan.toml", "runs", "splits.json"]


def test_a_run_of_a_plan_is_the_run_alone(backbone: bitfit.Backbone, task: Path, tmp_path: Path) -> None:
    plan = words_plan(task, seeds=[1])
    run_plan(backbone, plan, tmp_path / "out", keep_deltas=True)
    alone = bitfit.train(backbone, str(task), "bitfit", plan.cells[0].runs[0].config)
    (found,) = documents(tmp_path / "out").values()
    assert found["scores"] == alone.scores
    kept = bitfit.Delta.load(tmp_path / "out" / "deltas" / "words--bitfit--0.001--seed1.safetensors")
    assert all(np.array_equal(kept.values[key], alone.delta.values[key]) for key in alone.delta.values)


def test_the_test_is_read_for_the_chosen_rate_alone(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[float] = []
    whole = runner.evaluate

    def evaluate(backbone: Any, delta: bitfit.Delta, *arguments: Any, **named: Any) -> dict[str, float]:
        read.append(delta.settings["learning_rate"])  # type: ignore[arg-type]
        return whole(backbone, delta, *arguments, **named)

    monkeypatch.setattr(runner, "evaluate", evaluate)
    plan = words_plan(task, methods=[{"name": "bitfit", "learning_rate": [1e-6, 0.03]}], settings={"epochs": 4})
    run_plan(backbone, plan, tmp_path / "out")
    found = documents(tmp_path / "out")
    means: dict[float, float] = {}
    for one in found.values():
        rate = one["settings"]["learning_rate"]
        means[rate] = means.get(rate, 0.0) + one["scores"]["validation"]["accuracy"] / 2
    best = max(means, key=lambda rate: means[rate])
    assert len(set(means.values())) == 2
    assert read == [best, best]
    for one in found.values():
        was_chosen = one["settings"]["learning_rate"] == best
        assert ("test" in one["scores"]) == was_chosen
        assert one["unread"] == ([] if was_chosen else ["test"])
    assert not (tmp_path / "out" / "deltas").exists()
    run_plan(backbone, plan, tmp_path / "out")
    assert len(read) == 2


class InterruptsLater(Heard):
    """Interrupts the second training, at its last step: its first epoch is done then."""

    def stepped(self, step: int, loss: float, tokens: int) -> None:
        if len(self.rows) == 2 and step == 5:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_after_an_epoch_is_no_result(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path
) -> None:
    settings = {"epochs": 2, "batch_size": 8, "precision": "fp32"}
    plan = words_plan(task, methods=["full", "bitfit"], seeds=[0], settings=settings)
    outcome = run_plan(backbone, plan, tmp_path / "out", watcher=InterruptsLater())
    assert (outcome.stopped, outcome.done) == (True, 1)
    assert [name.split("--")[1] for name in documents(tmp_path / "out")] == ["full"]
    assert run_plan(backbone, plan, tmp_path / "out").done == 1


RATES = {
    "bitfit": [1e-6, 0.03],
    "full": [1e-6, 3e-3],
    "frozen": [1e-6, 0.03],
    "lora[r=2]": [1e-6, 0.02],
    "houlsby[4]": [1e-6, 0.02],
}


@pytest.mark.slow
def test_every_method_gets_its_own_rate_from_its_own_list_on_validation_alone(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    methods = [{"name": name, "learning_rate": rates} for name, rates in RATES.items()]
    settings = {"epochs": 3, "batch_size": 8, "precision": "fp32", "prefix_cache": False}
    plan = words_plan(task, methods=methods, seeds=[0], settings=settings)
    assert not run_plan(backbone, plan, tmp_path / "out").failed
    (tmp_path / "out" / "plan.toml").write_text(
        f"name = 'words'\ntasks = ['{task}']\nseeds = [0]\n"
        "[settings]\nepochs = 3\nbatch_size = 8\nprecision = 'fp32'\nprefix_cache = false\n"
        + "".join(f"[[methods]]\nname = '{name}'\nlearning_rate = {rates}\n" for name, rates in RATES.items())
    )
    found = list(documents(tmp_path / "out").values())
    for method in report(tmp_path / "out")["methods"]:
        runs = {one["settings"]["learning_rate"]: one for one in found if one["method"] == method["method"]}
        assert sorted(runs) == RATES[method["method"]]
        validation = {rate: one["scores"]["validation"]["accuracy"] for rate, one in runs.items()}
        choice = method["tasks"]["words"]["learning_rates"]
        assert validation[choice["chosen"]] == max(validation.values())
        assert [one["learning_rate"] for one in choice["tried"]] == sorted(runs)
        for rate, one in runs.items():  # a test is read for the chosen rate alone
            assert ("test" in one["scores"]) == (rate == choice["chosen"])


def test_facts_about_the_splits_are_kept_for_the_report(backbone: bitfit.Backbone, task: Path, tmp_path: Path) -> None:
    run_plan(backbone, words_plan(task, seeds=[0]), tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "splits.json").read_text())["words"]
    labels = [line.rsplit(",", 1)[1] for line in (task / "validation.csv").read_text().splitlines()[1:]]
    largest = max(labels.count("high"), labels.count("low")) / 10
    assert facts["validation"] == {"examples": 10, "largest_class": largest}
    assert Store(tmp_path / "out").splits()["words"]["train"].examples == 24


def test_what_is_there_is_not_done_again(backbone: bitfit.Backbone, task: Path, tmp_path: Path) -> None:
    run_plan(backbone, words_plan(task), tmp_path / "out")
    before = documents(tmp_path / "out")
    (tmp_path / "out" / "runs" / "words--bitfit--0.001--seed1.json").unlink()
    heard = Heard()
    outcome = run_plan(backbone, words_plan(task), tmp_path / "out", watcher=heard)
    assert (outcome.before, outcome.done, heard.rows) == (1, 1, [1])
    for name, one in documents(tmp_path / "out").items():
        assert one["scores"]["validation"] == pytest.approx(before[name]["scores"]["validation"], abs=1e-6)


def test_an_interrupted_plan_keeps_nothing_half_done_and_goes_on(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path
) -> None:
    outcome = run_plan(backbone, words_plan(task), tmp_path / "out", watcher=Heard(interrupt=True))
    assert (outcome.stopped, outcome.done, outcome.failed) == (True, 0, {})
    assert documents(tmp_path / "out") == {}
    outcome = run_plan(backbone, words_plan(task), tmp_path / "out")
    assert (outcome.stopped, outcome.done) == (False, 2)
    assert not (tmp_path / "out" / "under-way").exists()


@pytest.mark.parametrize(
    ("model_type", "method"), [("deberta-v2", "bitfit"), ("bert", "random-uniform"), ("bert", "bitfit[auto:200]")]
)
def test_of_runs_that_cannot_share_a_pass_those_that_are_done_outlive_a_kill(
    model_type: str, method: str, task: Path, tmp_path: Path
) -> None:
    class Kills(Heard):
        def stepped(self, step: int, loss: float, tokens: int) -> None:
            if len(self.rows) == 3:
                raise OSError("killed")

    other, plan = tiny_backbone(model_type), words_plan(task, methods=[method], seeds=[0, 1, 2])
    with pytest.raises(OSError, match="killed"):
        run_plan(other, plan, tmp_path / "out", watcher=Kills())
    done = documents(tmp_path / "out")
    assert [name.rpartition("--")[2] for name in done] == ["seed0", "seed1"]
    heard = Heard()
    outcome = run_plan(other, plan, tmp_path / "out", watcher=heard)
    assert (outcome.before, outcome.done, heard.rows) == (2, 1, [1])
    assert {name: one for name, one in documents(tmp_path / "out").items() if name in done} == done


def test_a_failed_run_is_named_and_the_others_go_on(backbone: bitfit.Backbone, task: Path, tmp_path: Path) -> None:
    methods: list[Any] = [{"name": "bitfit", "learning_rate": [1e-3, 9.0]}, "frozen"]

    class Breaks(Heard):
        def stepped(self, step: int, loss: float, tokens: int) -> None:
            if self.rows[-1] > 1 and len(self.rows) == 1:
                raise bitfit.errors.TrainingError("The loss became nan.")

    heard = Breaks()
    outcome = run_plan(backbone, words_plan(task, methods=methods, seeds=[0]), tmp_path / "out", watcher=heard)
    assert heard.rows == [2, 1, 1, 1]
    assert (outcome.done, outcome.failed) == (3, {})
    assert any("one after another" in note for note in heard.notes)
    missing = run_plan(backbone, words_plan(tmp_path / "no" / "task"), tmp_path / "other")
    assert (missing.done, len(missing.failed)) == (0, 2)
    assert "no/task" in next(iter(missing.failed.values()))


def test_results_of_another_plan_or_damaged_ones_are_refused(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path
) -> None:
    run_plan(backbone, words_plan(task), tmp_path / "out")
    with pytest.raises(RequestError, match="settings epochs: 1 there, 2 here"):
        run_plan(
            backbone,
            words_plan(task, settings={"epochs": 2, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-3}),
            tmp_path / "out",
        )
    path = tmp_path / "out" / "runs" / "words--bitfit--0.001--seed0.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(DataError, match="damaged"):
        run_plan(backbone, words_plan(task), tmp_path / "out")


def test_a_method_that_cannot_be_is_refused_before_any_work(
    backbone: bitfit.Backbone, task: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="b_qq"):
        run_plan(backbone, words_plan(task, methods=["frozen", "bitfit[b_qq]"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_watcher_hears_each_cell(backbone: bitfit.Backbone, task: Path, tmp_path: Path) -> None:
    heard = Heard()
    run_plan(backbone, words_plan(task), tmp_path / "out", watcher=heard)
    assert "1 of 1: bitfit on words, 2 of 2 runs to do" in heard.notes


def test_a_runs_file_does_not_name_the_machines_folders(backbone: bitfit.Backbone, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "glue" / "rte").mkdir(parents=True)
    for split in ("train", "validation"):
        texts = [f"w{4 + number} w9" for number in range(12)]
        rows = {"sentence1": texts, "sentence2": texts, "label": [0, 1] * 6, "idx": list(range(12))}
        pq.write_table(pa.table(rows), data / "glue" / "rte" / f"{split}-00000-of-00001.parquet")
    plan = words_plan(data, tasks=["rte"], seeds=[0])
    assert not run_plan(backbone, plan, tmp_path / "out", data_dir=data).failed
    (found,) = documents(tmp_path / "out").values()
    assert "rte: read from glue/rte" in found["notes"]
    assert str(tmp_path) not in json.dumps(found)


def test_a_plan_has_tasks_of_several_labels(tmp_path: Path, backbone: bitfit.Backbone) -> None:
    rows = [f"w{number % 60 + 4} w{number % 7 + 4},{number % 2},{number % 3 // 2}" for number in range(40)]
    path = tmp_path / "moods.csv"
    path.write_text("\n".join(["text,sad,glad", *rows]) + "\n")
    plan = words_plan(path, tasks=[{"name": str(path), "label": ["sad", "glad"]}])
    run_plan(backbone, plan, tmp_path / "results")
    scores = [document["scores"]["validation"] for document in documents(tmp_path / "results").values()]
    assert len(scores) == 2
    assert all(set(each) == {"micro_f1", "macro_f1", "mean_average_precision"} for each in scores)
    (tmp_path / "results" / "plan.toml").write_text(
        f"name = 'words'\nmethods = ['bitfit']\nseeds = [0, 1]\n[[tasks]]\nname = '{path}'\nlabel = ['sad', 'glad']\n"
    )
    assert report(tmp_path / "results")["methods"]
