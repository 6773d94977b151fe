"""`bitfit train` on a folder of images with a model of images, and `bitfit predict` on the paths of others."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import ViTImageProcessor, pipeline

from bitfit.cli.main import run
from tests.models import tiny

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")


def draw(path: Path, brightness: int, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 60, (20, 24, 3))
    Image.fromarray((noise + brightness).astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture
def vit(tmp_path: Path) -> str:
    tiny("vit").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    return str(tmp_path / "vit")


def test_a_folder_of_images(vit: str, tiny_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        draw(tmp_path / "sky" / "night" / f"{number}.png", 0, number)
        draw(tmp_path / "sky" / "day" / f"{number}.png", 190, number)
    file = str(tmp_path / "sky.safetensors")
    train = ["train", str(tmp_path / "sky"), "--model", vit, "--learning-rate", "1e-2", "--epochs", "4", "--out", file]
    assert run([*train, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["validation"]["accuracy"] == 1
    assert found["measured_on"]["validation"] == 6
    pictures = [draw(tmp_path / "x.png", 10, 99), draw(tmp_path / "y.png", 180, 98)]
    assert run(["predict", file, *pictures, "--json"]) == 0
    assert [line["answer"] for line in json.loads(capsys.readouterr().out)] == ["night", "day"]
    assert run(["delta", "merge", file, "--out", str(tmp_path / "merged")]) == 0
    plain = pipeline("image-classification", str(tmp_path / "merged"))
    assert [plain(picture, top_k=1)[0]["label"] for picture in pictures] == ["night", "day"]
    capsys.readouterr()
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text("image,who\n" + "".join(f"{path},me\n" for path in pictures))
    assert run(["predict", file, "--input", str(source), "--out", str(out)]) == 0
    assert [line.split(",")[1:3] for line in out.read_text().splitlines()[1:]] == [["me", "night"], ["me", "day"]]
    capsys.readouterr()
    assert run(["train", str(tmp_path / "sky"), "--model", tiny_folder, "--out", str(tmp_path / "no.safetensors")]) == 4
    assert "'sky' has images, and the model reads texts" in capsys.readouterr().err
