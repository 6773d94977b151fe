"""`bitfit terms`: the paper's counts, JSON as documented, a table that says why b_k stays."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bitfit.cli.terms import command
from bitfit.errors import RequestError

BERT = {"model_type": "bert", "vocab_size": 30522}
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
    "base": {},
    "large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}


def run(tmp_path: Path, config: dict[str, Any], *options: str) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = CliRunner().invoke(command, [str(tmp_path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def document(tmp_path: Path, size: str, *options: str) -> Any:
    return json.loads(run(tmp_path, BERT | SIZES[size], "--json", *options))


def test_bert_tinys_counts_are_the_originals(tmp_path: Path) -> None:
    found = document(tmp_path, "tiny", "--labels", "2", "--head", "bias")
    assert found["parameters"] == 4_386_178
    assert found["biases"] == found["trainable"]["bitfit"] == 3_074
    assert document(tmp_path, "tiny", "--labels", "2", "--head", "full")["trainable"]["bitfit"] == 3_330


@pytest.mark.parametrize(("size", "share"), [("base", "0.09%"), ("large", "0.08%")])
@pytest.mark.slow
def test_the_papers_shares_are_reached(tmp_path: Path, size: str, share: str) -> None:
    found = document(tmp_path, size, "--labels", "2")
    assert f"{found['biases'] / found['parameters']:.2%}" == share


def test_each_method_and_each_symbol_is_counted(tmp_path: Path) -> None:
    found = document(tmp_path, "tiny", "--labels", "2")
    assert found["trainable"] == {
        "bitfit": 3_330,
        "frozen": 258,
        "full": 4_386_178,
        "layernorm": 2 * 5 * 128 + 258,
        "ia3": 2 * (128 + 128 + 512) + 258,
        "red": 2 * (128 + 128) + 258,
        "beft": 2 * 128 + 258,
        "steer": 2 * 128 + 258,
        "gain-and-bias": 2 * 2 * (4 * 128 + 512 + 128 + 2 * 128) + 258,
        "added-bias": 0,
        "lora": 2 * 2 * 2 * 8 * 128 + 258,  # layers, query and value, A and B
        "houlsby": 4 * (2 * 152 * 128 + 152 + 128) + 2 * 5 * 128 + 258,
        "diff-pruning": round(0.005 * 4_385_920) + 258,
        "random-uniform": 3_330,
        "random-rows-columns": 3_330 - 128,  # not the embeddings' norm
        "random-lines": 3_330,
        **dict.fromkeys(["b_LN1", "b_LN2", "b_k", "b_m1", "b_m3", "b_q", "b_v"], 2 * 128 + 128 + 258),
        "b_m2": 2 * 512 + 128 + 258,  # the pooler's bias among them
    }


def test_new_parameters_are_counted_and_taken_out_again(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96}
    found = json.loads(run(tmp_path, config | {"num_attention_heads": 4}, "--json"))
    assert found["trainable"]["added-bias"] == 2 * (4 * 64 + 2 * 96 + 64)
    assert found["trainable"]["bitfit"] == 0
    assert found["trainable"]["full"] == found["parameters"]


def test_lora_is_left_out_where_its_library_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "lora" not in document(tmp_path, "tiny")["trainable"]
    assert "needs the extra 'lora'" in run(tmp_path, BERT | SIZES["tiny"])


def test_each_term_is_described(tmp_path: Path) -> None:
    found = document(tmp_path, "tiny", "--labels", "2")
    assert found["terms"][2] == {
        "symbol": "b_k",
        "role": "key",
        "layer": 0,
        "name": "bert.encoder.layer.0.attention.self.key.bias",
        "size": 128,
        "inert": True,
    }
    assert (found["terms"][0]["symbol"], found["terms"][0]["layer"]) == (None, None)
    assert found["terms"][-1]["role"] == "head"


def test_without_labels_the_bare_model_is_counted(tmp_path: Path) -> None:
    found = document(tmp_path, "tiny")
    assert found["parameters"] == 4_386_178 - 258
    assert (found["trainable"]["bitfit"], found["trainable"]["frozen"]) == (3_072, 0)


def test_the_table_says_why_a_keys_bias_stays(tmp_path: Path) -> None:
    shown = run(tmp_path, BERT | SIZES["tiny"], "--labels", "2", "--head", "bias")
    assert "b_k*" in shown
    assert "gradient of exactly zero" in shown
    assert "3,074" in shown
    assert "0.070%" in shown


def test_a_model_without_biases_is_told_what_fits(tmp_path: Path) -> None:
    shown = run(tmp_path, {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64})
    assert "added-bias" in shown


def test_images_are_counted_too(tmp_path: Path) -> None:
    config = {"model_type": "vit", "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 3}
    found = json.loads(run(tmp_path, config, "--json", "--labels", "10"))
    assert found["terms"][-1] == {
        "symbol": None,
        "role": "head",
        "layer": None,
        "name": "classifier.bias",
        "size": 10,
        "inert": False,
    }


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(RequestError):
        CliRunner().invoke(command, [""], catch_exceptions=False)
