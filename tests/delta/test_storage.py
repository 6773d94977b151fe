"""A file that is cut, foreign, too old, too new or hostile gives a DeltaError that says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as make_safetensors

import bitfit
from bitfit.delta import storage
from bitfit.errors import DeltaError

# The fixtures are only read, so that examples may share them.
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
Header = dict[str, Any]


def split(data: bytes) -> tuple[Header, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: Header | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + body


def with_header(data: bytes, change: Callable[[Header], object]) -> bytes:
    header, body = split(data)
    change(header)
    return join(header, body)


def with_document(data: bytes, change: Callable[[Header], object]) -> bytes:
    def change_document(header: Header) -> None:
        document = json.loads(header["__metadata__"]["bitfit"])
        change(document)
        header["__metadata__"]["bitfit"] = json.dumps(document)

    return with_header(data, change_document)


def refuse(data: bytes) -> str:
    """What the error says."""
    with pytest.raises(DeltaError) as refused:
        bitfit.Delta.from_bytes(data)
    return str(refused.value)


@in_one_folder
@given(st.data())
def test_a_file_cut_anywhere_is_refused(delta: bitfit.Delta, data: st.DataObject) -> None:
    whole = delta.to_bytes()
    refuse(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(in_one_folder, max_examples=400)
@given(st.data())
def test_any_bytes_written_over_the_file_give_a_delta_or_a_delta_error(
    delta: bitfit.Delta, data: st.DataObject
) -> None:
    changed = bytearray(delta.to_bytes())
    header_end = 8 + int.from_bytes(changed[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, header_end + 64))
        changed[place : place + 1] = data.draw(st.binary(min_size=0, max_size=3))
    try:
        found = bitfit.Delta.from_bytes(bytes(changed))
    except DeltaError:
        return
    assert all(np.isfinite(value).all() for value in found.values.values())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places_in(item, (*path, key)))]


@settings(in_one_folder, max_examples=400)
@given(st.data())
@pytest.mark.slow
def test_any_value_put_anywhere_in_the_document_gives_a_delta_or_a_delta_error(
    delta: bitfit.Delta, data: st.DataObject
) -> None:
    def change(document: Header) -> None:
        place = data.draw(st.sampled_from(places_in(document)[1:]))
        holder: Any = document
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = data.draw(json_values)

    try:
        found = bitfit.Delta.from_bytes(with_document(delta.to_bytes(), change))
    except DeltaError:
        return
    assert bitfit.Delta.from_bytes(found.to_bytes()).task == found.task


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    refuse(data)


@given(st.binary(max_size=60))
def test_random_bytes_with_a_true_length_are_refused(data: bytes) -> None:
    refuse(len(data).to_bytes(8, "little") + data)


def test_a_pickle_and_a_foreign_checkpoint_are_told_apart() -> None:
    assert "not a safetensors file" in refuse(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s." * 9)
    foreign = make_safetensors({"weight": np.zeros(3, dtype=np.float32)}, {"format": "pt"})
    assert "no 'bitfit' document" in refuse(foreign)


def test_an_enormous_header_is_refused_unread() -> None:
    claims = (2**63).to_bytes(8, "little") + b'{"a":1}'
    assert "header claims 9,223,372,036,854,775,808 bytes; at most 8,388,608" in refuse(claims)
    assert "header claims" in refuse((storage.HEADER_LIMIT + 1).to_bytes(8, "little") + b"{" + b" " * 100)


def test_a_header_nested_without_end_is_refused() -> None:
    assert "broken JSON" in refuse(join('{"a":' + "[" * 200_000, b""))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ("[]", "not a safetensors file"),
        ('{"a": ' + "9" * 5000 + "}", "limit"),
    ],
)
def test_json_that_is_none_is_refused(text: str, why: str) -> None:
    assert why in refuse(join(text, b""))


NAME = "classifier.bias"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"dtype": "F64"}, "type 'F64'"),
        ({"dtype": ["F32"]}, "type"),
        ({"shape": [-2]}, "shape"),
        ({"shape": [True, 2]}, "shape"),
        ({"shape": [2.0]}, "shape"),
        ({"shape": [2**61, 2**61]}, "needs"),
        ({"shape": [1] * 9}, "shape"),
        ({"data_offsets": [0]}, "has the offsets"),
        ({"data_offsets": [8, 0]}, "offsets say otherwise"),
        ({"data_offsets": [4, 12]}, "begins at byte"),
        ({"shape": [3]}, "needs 12 bytes"),
        ({"extra": 1}, "nothing else"),
    ],
)
def test_a_tensor_that_lies_about_itself_is_refused(delta: bitfit.Delta, entry: Header, why: str) -> None:
    small = bitfit.Delta(
        delta.backbone,
        delta.fingerprint,
        "bitfit",
        "full",
        delta.slots[-2:],
        {slot.key: delta.values[slot.key] for slot in delta.slots[-2:]},
        delta.task,
    )
    assert why in refuse(with_header(small.to_bytes(), lambda header: header[NAME].update(entry)))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a\\b", "a b", "..", "a..b", "\x1b[2J", "", "x" * 301]
)
def test_names_that_are_no_parameter_names_are_refused(delta: bitfit.Delta, name: str) -> None:
    def rename(header: Header) -> None:
        header[name] = header.pop(NAME)

    found = refuse(with_header(delta.to_bytes(), rename))
    assert "not a plain parameter name" in found
    assert "\x1b" not in found


@pytest.mark.parametrize("name", ["../../etc/passwd", "a:b", "a..b", "", 3, None])
def test_slots_with_such_names_are_refused(delta: bitfit.Delta, name: Any) -> None:
    data = with_document(delta.to_bytes(), lambda document: document["slots"][0].update(name=name))
    assert "no proper parameter name" in refuse(data)


def test_gaps_and_bytes_after_the_end_are_refused(delta: bitfit.Delta) -> None:
    assert "7 bytes follow the last tensor" in refuse(delta.to_bytes() + b"x" * 7)


def test_values_that_are_not_finite_are_refused(delta: bitfit.Delta) -> None:
    header, body = split(delta.to_bytes())
    for value in (np.nan, np.inf, -np.inf):
        start = header[NAME]["data_offsets"][0]
        bad = body[:start] + np.float32(value).tobytes() + body[start + 4 :]
        assert f"'{NAME}' holds values that are not finite" in refuse(join(header, bad))


def test_older_and_newer_formats_are_told_apart(delta: bitfit.Delta) -> None:
    older = refuse(with_document(delta.to_bytes(), lambda document: document.update(format=0)))
    assert "format 0, older than format 1" in older
    newer = refuse(with_document(delta.to_bytes(), lambda document: document.update(format=2)))
    assert "format 2, newer than format 1" in newer
    assert "Install a newer bitfit" in newer
    # A later format may have other fields: the number is looked at first.
    assert "newer" in refuse(
        with_document(delta.to_bytes(), lambda document: (document.clear(), document.update(format=9)))
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.pop("task"), "set of fields"),
        (lambda d: d.update(surprise=1), "set of fields"),
        (lambda d: d["backbone"].update(fingerprint="sha256:12"), "fingerprint"),
        (lambda d: d.update(head="none"), "head"),
        (lambda d: d["task"].update(kind="poem"), "There is no kind 'poem'"),
        (lambda d: d["task"].update(labels=[]), "of kind 'class' needs its label names"),
        (lambda d: d["task"].update(labels=["a", "a"]), "'a' is there twice"),
        (lambda d: d["task"].update(max_length=10**9), "max_length must be"),
        (lambda d: d["task"].update(texts=[]), "texts must be"),
        (lambda d: d.update(scores={"test": {"f1": "high"}}), "table of scores"),
        (lambda d: d["slots"].pop(), "does not speak of"),
        (lambda d: d["slots"].append({"name": "nowhere"}), "no such tensor"),
        (lambda d: d["slots"].append(d["slots"][0]), "same key"),
        (lambda d: d["slots"][0].update(range=[0, 2**60], shape=[2**61]), "for the range"),
        (lambda d: d["slots"][0].update(range=[4, 20], shape=[16]), "not sorted inside"),
        (lambda d: d["slots"][0].update(indices=True, shape=[16]), "needs its indices"),
    ],
)
def test_a_document_that_does_not_hold_is_refused(
    delta: bitfit.Delta, change: Callable[[Header], object], why: str
) -> None:
    assert why in refuse(with_document(delta.to_bytes(), change))


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    path.write_bytes(b"abc")
    with pytest.raises(DeltaError, match=r"half\.safetensors is refused\. It is cut off"):
        bitfit.Delta.load(path)
    with pytest.raises(DeltaError, match="There is no such file"):
        bitfit.Delta.load(tmp_path / "nowhere")
    with pytest.raises(DeltaError, match="not a regular file"):
        bitfit.Delta.load(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(
    delta: bitfit.Delta, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full_disk(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(DeltaError, match="cannot be written: No space left on device"):
        delta.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_not_there_is_named(delta: bitfit.Delta, tmp_path: Path) -> None:
    with pytest.raises(DeltaError, match=r"nowhere.+cannot be written: No such file or directory"):
        delta.save(tmp_path / "nowhere" / "file")


def test_saving_the_same_twice_gives_the_same_bytes(delta: bitfit.Delta, saved: Path, tmp_path: Path) -> None:
    delta.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    bitfit.Delta.load(saved).save(tmp_path / "third")
    assert (tmp_path / "third").read_bytes() == saved.read_bytes()
