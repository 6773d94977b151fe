"""Backbones from folders, from the embedded package and from names that cannot be had."""

import json
import logging
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import PretrainedConfig

import bitfit
from bitfit.backbone import load as loading
from bitfit.backbone.heads import Head
from bitfit.errors import BackboneError, MissingExtraError, RequestError
from tests.hub_cache import cached, without_network
from tests.models import inputs, tiny, tiny_tokenizer

BERT_TINY = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 30522,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bert"
    tiny("bert").save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return place


def test_a_folder_is_a_frozen_backbone(folder: Path) -> None:
    backbone = bitfit.load(str(folder))
    assert backbone.name == str(folder)
    assert backbone.has_weights
    assert backbone.tokenizer is not None
    assert backbone.tokenizer("w5 w6")["input_ids"] == [2, 5, 6, 3]
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    with torch.no_grad():
        expected = tiny("bert")(**inputs("bert")).last_hidden_state
        assert torch.equal(backbone.model(**inputs("bert")).last_hidden_state, expected)


def test_half_precision_weights_become_fp32(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    tiny("bert").half().save_pretrained(half)
    backbone = bitfit.load(str(half))
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}
    assert backbone.tokenizer is None


def test_the_fingerprint_follows_the_weights_alone(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    same = bitfit.load(str(copy)).fingerprint
    assert bitfit.load(str(folder)).fingerprint == same
    assert same.startswith("sha256:")
    weights = load_file(copy / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][0] += 1e-6
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert bitfit.load(str(copy)).fingerprint != same


def test_a_second_load_does_not_hash_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bitfit.load(str(folder))
    monkeypatch.setattr(loading, "fingerprint", lambda model: pytest.fail("hashed again"))
    assert bitfit.load(str(folder)).fingerprint == first.fingerprint


def test_a_cache_that_cannot_be_written_is_no_obstacle(folder: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert bitfit.load(str(folder)).fingerprint == bitfit.load(str(folder)).fingerprint


def test_weights_that_a_checkpoint_lacks_are_drawn_alike_each_time(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if not name.startswith("pooler")}
    save_file(weights, path, metadata={"format": "pt"})
    one = bitfit.load(str(folder))
    torch.rand(3)
    state = torch.random.get_rng_state()
    two = bitfit.load(str(folder))
    assert torch.equal(torch.random.get_rng_state(), state)
    pooler = one.model.get_parameter("pooler.dense.weight")
    assert torch.equal(pooler, two.model.get_parameter("pooler.dense.weight"))
    assert pooler.abs().sum() > 0
    assert one.fingerprint == two.fingerprint


def test_another_models_weights_are_refused(folder: Path) -> None:
    save_file({"foreign": torch.zeros(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match="another model's"):
        bitfit.load(str(folder))


def test_a_configuration_alone_can_be_counted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BERT_TINY))
    backbone = bitfit.load(str(tmp_path))
    assert not backbone.has_weights
    assert (backbone.fingerprint, backbone.tokenizer) == ("", None)
    model = backbone.task_model(Head("class", 2))
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_386_178


def test_weights_can_be_left_unread(folder: Path) -> None:
    assert not bitfit.load(str(folder), weights=False).has_weights


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("{}", "model_type"),
        ('{"model_type": "nobody-knows"}', "nobody-knows"),
        ('{"model_type": "bert", "hidden_size": 30, "num_attention_heads": 4}', "30"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=said) as caught:
        bitfit.load(str(tmp_path))
    assert "'minilm'" in str(caught.value)


def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be read"):
        bitfit.load(str(folder))


def test_too_little_memory_is_not_taken_for_a_bad_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    monkeypatch.setattr(loading, "_weights", full)
    with pytest.raises(BackboneError, match=r"not enough memory to load the model .* End other programs"):
        bitfit.load(str(folder))


def test_code_that_a_model_brings_along_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}})
    )
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BackboneError):
        bitfit.load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_not_there_is_not_looked_for_elsewhere() -> None:
    with pytest.raises(BackboneError, match="no such folder"):
        bitfit.load("./nowhere")
    with pytest.raises(RequestError, match="model name"):
        bitfit.load("")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"no config\.json"):
        bitfit.load(str(tmp_path))


def test_without_a_network_the_embedded_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise socket.gaierror("no network")

    for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(BackboneError, match="without a network") as caught:
        bitfit.load("nobody/no-such-model")
    assert "'minilm'" in str(caught.value)


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked"))
    with pytest.raises(BackboneError, match="without a network"):
        bitfit.load("nobody/no-such-model")


def test_loading_is_silent_and_leaves_logging_as_it_was(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = transformers.utils.logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub").level
    bitfit.load(str(folder)).task_model(Head("class", 2))
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == level
    assert logging.getLogger("huggingface_hub").level == hub
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_without_its_package_the_embedded_model_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PACKAGE", "no-such-package-here")
    with pytest.raises(MissingExtraError, match=r"bitfit\[demo\]"):
        bitfit.load()


def test_a_name_that_no_hub_could_have_is_refused() -> None:
    with pytest.raises(BackboneError, match="owner/model"):
        bitfit.load("a/b/c")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, with nobody to ask."""
    return without_network(tmp_path / "hub", monkeypatch)


def test_a_hub_name_in_the_local_cache_needs_no_network(folder: Path, hub: Path) -> None:
    cached(hub, folder, "0" * 40)
    backbone = bitfit.load("somebody/tiny")
    assert (backbone.name, backbone.revision) == ("somebody/tiny", None)
    assert backbone.tokenizer is not None
    assert backbone.fingerprint == bitfit.load(str(folder)).fingerprint
    assert not bitfit.load("somebody/tiny", weights=False).has_weights


def test_a_revision_is_that_branch_or_commit_and_is_kept(folder: Path, hub: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    tiny("bert", hidden_size=16).save_pretrained(other)
    cached(hub, folder, "0" * 40)
    cached(hub, other, "1" * 40, "experiment")
    assert bitfit.load("somebody/tiny").config.hidden_size == 32
    for revision in ("experiment", "1" * 40):
        backbone = bitfit.load("somebody/tiny", revision=revision)
        assert (backbone.config.hidden_size, backbone.revision) == (16, revision)
    with pytest.raises(BackboneError, match="'somebody/tiny' at the revision 'v9' is neither a folder here nor in"):
        bitfit.load("somebody/tiny", revision="v9")


@pytest.mark.parametrize("options", [{"revision": "main"}, {"token": "secret"}, {"cache_dir": "elsewhere"}])
def test_what_only_the_hub_takes_is_refused_for_a_folder(folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=f"Leave out {next(iter(options))}=: only models of the hub take it"):
        bitfit.load(folder, **options)  # type: ignore[arg-type]


def test_what_is_no_name_is_refused() -> None:
    with pytest.raises(RequestError, match="Expected a model's name or folder, such as 'minilm'; found None"):
        bitfit.load(None)  # type: ignore[arg-type]


def test_copies_may_be_kept_elsewhere(folder: Path, hub: Path, tmp_path: Path) -> None:
    cached(tmp_path / "elsewhere", folder, "0" * 40)
    assert bitfit.load("somebody/tiny", cache_dir=tmp_path / "elsewhere").has_weights
    with pytest.raises(BackboneError, match="neither a folder here nor in the local cache"):
        bitfit.load("somebody/tiny")


def test_a_download_that_was_interrupted_is_no_whole_copy(hub: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    tiny("bert").save_pretrained(sharded, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(sharded)
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert len(shards) > 1
    copy = cached(hub, sharded, "0" * 40)
    assert bitfit.load("somebody/tiny").fingerprint == bitfit.load(sharded).fingerprint
    (copy / shards[-1].name).unlink()
    with pytest.raises(BackboneError, match="'somebody/tiny' is in the local cache only in part"):
        bitfit.load("somebody/tiny")
    for shard in shards[:-1]:
        (copy / shard.name).unlink()
    with pytest.raises(BackboneError, match="only in part"):
        bitfit.load("somebody/tiny")
    (copy / "model.safetensors.index.json").write_text("{")
    with pytest.raises(BackboneError, match="only in part"):
        bitfit.load("somebody/tiny")
    assert not bitfit.load("somebody/tiny", weights=False).has_weights


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (LocalEntryNotFoundError("nothing here"), "without a network it cannot be fetched"),
        (ConnectionResetError("reset"), "without a network it cannot be fetched"),
        (OSError("the tokenizer's connector was disconnected"), "cannot be read: the tokenizer's connector"),
        (RepositoryNotFoundError, r"is not on the hub, or it is private\. Check the name, or give a token: `token="),
        (RevisionNotFoundError, "'somebody/new' at the revision 'v2' is not on the hub: it has no such branch"),
        (GatedRepoError, r"accepted its terms on the hub\. Accept them, and give a token: `token="),
    ],
)
def test_why_a_model_was_not_fetched_is_said(
    cause: Exception | type[HfHubHTTPError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        error = cause.__new__(cause) if isinstance(cause, type) else cause
        raise OSError(str(error)) from error

    monkeypatch.setattr(loading, "hub_answers", lambda: True)
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", refused)
    with pytest.raises(BackboneError, match=words):
        bitfit.load("somebody/new", revision="v2")


@pytest.mark.slow
def test_a_revision_and_a_token_are_handed_on(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    def noting(name: str, **options: object) -> PretrainedConfig:
        asked.append({"name": name, **options})
        return PretrainedConfig.from_pretrained(folder)

    monkeypatch.setattr(loading, "hub_answers", lambda: True)
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", noting)
    with pytest.raises(BackboneError):
        bitfit.load("somebody/new", revision="v2", token="secret", cache_dir=tmp_path, weights=False)
    wanted = {"name": "somebody/new", "revision": "v2", "token": "secret", "cache_dir": tmp_path}
    assert asked == [{**wanted, "trust_remote_code": False}]


def test_a_backbone_is_one_line(folder: Path) -> None:
    assert repr(bitfit.load(folder)) == f"Backbone({str(folder)!r}: bert, 20,288 parameters)"
    assert repr(bitfit.load(folder, weights=False)) == f"Backbone({str(folder)!r}: bert, without weights)"


class TestEmbedded:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        try:
            loading._embedded_folder()
        except MissingExtraError:
            pytest.skip("the embedded model's package is not installed")

    def test_it_is_the_default(self) -> None:
        backbone = bitfit.load()
        assert backbone.name == "minilm"
        assert backbone.tokenizer is not None
        assert sum(parameter.numel() for parameter in backbone.model.parameters()) == 22_713_216
        assert len(backbone.tokenizer("word " * 300)["input_ids"]) == 302  # its file would cut at 128

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
    def test_another_file_under_its_name_is_refused(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(loading._PINNED, name, "0" * 64)
        with pytest.raises(BackboneError, match=f"{name} should have the SHA-256 000"):
            bitfit.load()

    @pytest.mark.slow
    def test_its_package_is_never_imported(self) -> None:
        code = "import sys, bitfit; bitfit.load(); assert not [m for m in sys.modules if m.startswith('gt_all')]"
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["minlm", "MiniLM", "minilmm"])
def test_a_misspelt_name_of_the_embedded_model_is_asked_about(name: str) -> None:
    with pytest.raises(BackboneError, match=f"There is no model '{name}'. Did you mean 'minilm'"):
        bitfit.load(name)
