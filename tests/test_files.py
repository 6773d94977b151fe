"""Files and folders are there whole or not at all, whatever happens in between; a lock is held by one process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bitfit import files
from bitfit.errors import RequestError
from bitfit.files import cache_folder, lock_file, new_folder, strict_json, whole_folder, write_whole, writing_whole


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_end_in_between_leaves_the_old_file_and_nothing_else(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, [b"old"])

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(*((os, "fsync") if moment == "fsync" else (Path, "replace")), killed)
    with pytest.raises(Killed):
        write_whole(path, [b"new ", b"content"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_cannot_be_had_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, [b"old"])
    with pytest.raises(TypeError), writing_whole(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_synced_after_the_file_is_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, room = tmp_path / "file", tmp_path / "room"
    room.mkdir()
    seen: list[tuple[bool, bool]] = []
    sync: Callable[[int], None] = os.fsync

    def noting(handle: int) -> None:
        seen.append((os.fstat(handle).st_ino == tmp_path.stat().st_ino, path.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    with writing_whole(path, room) as file:
        file.write(b"content")
        assert len(list(room.iterdir())) == 1
    assert seen == [(False, False), (True, True)]
    assert not list(room.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "made") as folder:
        (folder / "file").write_text("content")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "file").read_text() == "content"
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "other"):
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_is_there_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"exists already\. A new folder is needed"), new_folder(tmp_path):
        pass
    with pytest.raises(RequestError, match="cannot be written: No such file"), new_folder(tmp_path / "no" / "way"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="there are no such locks here")
def test_a_lock_is_one_process_at_a_time_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"from bitfit.files import lock_file; from pathlib import Path; held = lock_file(Path({str(path)!r}))"
    with lock_file(path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "BlockingIOError" in done.stderr
    subprocess.run([sys.executable, "-c", code], check=True)
    lock_file(path).close()


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BITFIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("BITFIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "bitfit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "bitfit"


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"a": 1, "a": 2}', "twice"), ("[NaN]", "NaN is not JSON"), ("1e999", "1e999 is too large"), ("{", "Expecting")],
)
def test_json_is_read_strictly(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        strict_json(text)
    assert strict_json('{"a": [1.5, null]}') == {"a": [1.5, None]}


def test_a_name_for_what_is_to_come_is_nobody_elses(tmp_path: Path) -> None:
    names = {files.part_beside(tmp_path / "file") for _ in range(100)}
    assert len(names) == 100
