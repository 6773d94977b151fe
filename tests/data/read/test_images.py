"""Folders of images and arrays become examples of one piece with pixels; damaged images are named together."""

import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import ViTImageProcessor

from bitfit.data.encode.encoder import tokenize
from bitfit.data.options import DataOptions
from bitfit.data.read.images import image_arrays
from bitfit.data.read.source import load_task
from bitfit.errors import DataError, MissingExtraError, RequestError

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")


def draw(folder: Path, count: int, colour: str, size: tuple[int, int] = (20, 12)) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", size, colour).save(folder / f"{index}.png")


@pytest.fixture
def processor() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": 8, "width": 8})


@pytest.mark.parametrize("inside", ["", "train"])
def test_the_folder_of_an_image_is_its_label(tmp_path: Path, processor: ViTImageProcessor, inside: str) -> None:
    draw(tmp_path / "pets" / inside / "red", 10, "red")
    draw(tmp_path / "pets" / inside / "blue", 20, "blue")
    table = load_task(str(tmp_path / "pets"))
    assert table.task.labels == ("blue", "red")
    assert table.task.name == "pets"
    data = tokenize(table, processor)
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 27, "validation": 3}
    train = tokenize(table, processor).splits["train"]  # now from the cache
    assert train.source["pixels"].shape == (27, 3, 8, 8)
    assert train.lengths.tolist() == [1] * 27
    is_red = train.source["pixels"][:, 0].mean(axis=(1, 2)) > 0.9
    assert is_red.tolist() == train.labels.astype(bool).tolist()


def test_damaged_images_and_unknown_folders_are_named_together(tmp_path: Path) -> None:
    for label in ("red", "blue"):
        draw(tmp_path / "train" / label, 2, label)
    (tmp_path / "train" / "red" / "broken.png").write_bytes(b"\x89PNG no more")
    whole = (tmp_path / "train" / "red" / "0.png").read_bytes()
    (tmp_path / "train" / "red" / "short.png").write_bytes(whole[: len(whole) // 2])
    draw(tmp_path / "test" / "green", 1, "green")
    with pytest.raises(DataError, match="3 problems") as caught:
        load_task(str(tmp_path))
    assert "broken.png: not a readable image: its bytes are none of .png, .jpg" in str(caught.value)
    assert "the folder 'green' is not among those of train (blue, red)" in str(caught.value)


def test_arrays(processor: ViTImageProcessor) -> None:
    images = np.zeros((20, 9, 7, 3), np.uint8)
    images[10:] = 255
    table = image_arrays("shades", {"train": (images, ["dark"] * 10 + ["light"] * 10)})
    train = tokenize(table, processor, cache=None).splits["train"]
    assert np.array_equal(train.source["pixels"].mean(axis=(1, 2, 3)) > 0, train.labels == 1)
    with pytest.raises(RequestError, match=r"found float64 \(20, 9, 7, 3\)"):
        image_arrays("shades", {"train": (images.astype(float), ["dark"] * 20)})
    with pytest.raises(DataError, match="the label 'grey' is not in train"):
        image_arrays("shades", {"train": (images, ["a", "b"] * 10), "test": (images[:1], ["grey"])})
    with pytest.raises(
        RequestError, match=r"`DataOptions\(label=...\)`, `DataOptions\(name=...\)` can change nothing about images"
    ):
        image_arrays("shades", {"train": (images, ["a", "b"] * 10)}, DataOptions(label="x", name="y"))


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "red", 2, "red")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"bitfit\[images\]"):
        load_task(str(tmp_path))
