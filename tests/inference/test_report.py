"""What a report of classes and of numbers says, by hand; and its picture."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bitfit.errors import MissingExtraError, RequestError
from bitfit.inference.bootstrap import Interval
from bitfit.inference.evaluation import Evaluation
from bitfit.inference.figures import draw_evaluation
from bitfit.inference.report import ClassReport, Confusion, NumberReport, class_report, number_report, tag_report

GOLD = np.array([0, 0, 0, 1, 1, 2])
LOGITS = np.eye(4)[[0, 1, 1, 1, 1, 0]]  # of four classes, the last in no row


def test_classes_by_hand() -> None:
    report = class_report(("a", "b", "c", "d"), GOLD, LOGITS)
    a, b, c, d = report.classes
    assert (a.precision, a.recall, a.f1, a.support) == pytest.approx((1 / 2, 1 / 3, 2 / 5, 3))
    assert (b.precision, b.recall, b.f1, b.support) == pytest.approx((1 / 2, 1, 2 / 3, 2))
    assert (c.precision, c.recall, c.f1, c.support) == (0, 0, 0, 1)
    assert (d.f1, d.support) == (0, 0)
    assert report.confusion.tolist() == [[1, 2, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert report.confusions == [Confusion("a", "b", 2, 3), Confusion("c", "a", 1, 1)]
    assert report.macro_f1 == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert report.weighted_f1 == pytest.approx((3 * 2 / 5 + 2 * 2 / 3 + 0) / 6)
    assert report.roc_auc is None


def test_two_classes_have_areas_of_the_second() -> None:
    logits = np.array([[0, -2.0], [0, 1.0], [0, 0.5], [0, 2.0]])
    report = class_report(("no", "yes"), np.array([0, 0, 1, 1]), logits)
    assert report.roc_auc == pytest.approx(3 / 4)
    assert report.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert class_report(("no", "yes"), np.array([1, 1, 1, 1]), logits).roc_auc is None


def test_tags_are_counted_by_word() -> None:
    assert (
        tag_report(("a", "b", "c", "d"), GOLD, LOGITS.argmax(1)).to_json()
        == class_report(("a", "b", "c", "d"), GOLD, LOGITS).to_json()
    )


def test_numbers_by_hand() -> None:
    report = number_report(np.array([1.0, 2, 3]), np.array([2.0, 2, 5]))
    assert report.mean_absolute_error == pytest.approx(1)
    assert report.to_json()["answers"] == [2, 2, 5]
    assert report.pearson == pytest.approx(np.corrcoef([1, 2, 3], [2, 2, 5])[0, 1])


def evaluation(report: ClassReport | NumberReport | None) -> Evaluation:
    return Evaluation("test", {"accuracy": 0.5}, "6", Interval(0.1, 0.9), report)


def test_pictures_are_drawn_of_classes_and_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    many = class_report([f"class {i}" for i in range(50)], np.arange(50), np.eye(50)[::-1])
    few = class_report(("a", "b", "c", "d"), GOLD, LOGITS)
    for name, report in (("many", many), ("few", few), ("numbers", number_report(GOLD, GOLD + 0.5))):
        path = draw_evaluation(evaluation(report), tmp_path / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RequestError, match=r"ends with its format, as in 'scores.png' or .*; found '.*few.pgn'"):
        draw_evaluation(evaluation(few), tmp_path / "few.pgn")
    with pytest.raises(RequestError, match="a task of spans has none"):
        draw_evaluation(evaluation(None), tmp_path / "none.png")


def test_a_picture_without_matplotlib_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bitfit\[plots\]'"):
        draw_evaluation(evaluation(class_report(("a", "b", "c", "d"), GOLD, LOGITS)), tmp_path / "a.png")
