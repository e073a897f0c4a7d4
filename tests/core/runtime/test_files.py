import json
import os
from pathlib import Path

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.runtime.files import json_text, make_folder, write_atomically, write_folder_atomically


def test_the_file_appears_only_when_complete(tmp_path):
    target = tmp_path / "out.json"
    with write_atomically(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("error", [RuntimeError("disk"), KeyboardInterrupt()])
def test_a_failure_leaves_what_stood_there_and_nothing_else(tmp_path, error):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write_and_fail():
        with write_atomically(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_and_fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_the_file_has_the_rights_of_any_new_file(tmp_path):
    with write_atomically(tmp_path / "a") as temporary:
        temporary.write_text("")
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "file.txt")
    with write_atomically(tmp_path / "link.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "file.txt").read_text() == "x"


def test_impossible_places_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder: make it first"), write_atomically(tmp_path / "no" / "x"):
        pytest.fail("the body ran")
    with pytest.raises(InputError, match="is not a folder: make it first"), write_atomically(tmp_path / "file" / "x"):
        pytest.fail("the body ran")
    with pytest.raises(InputError, match="is a folder: name a file"), write_atomically(tmp_path):
        pytest.fail("the body ran")
    with pytest.raises(InputError, match="can be written to"), write_atomically(tmp_path / ("n" * 300)):
        pytest.fail("the body ran")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write to")
def test_a_read_only_folder_is_refused():
    with pytest.raises(InputError, match="can be written to"), write_atomically("/proc/self/out.txt"):
        pytest.fail("the body ran")


def test_a_folder_appears_complete_and_replaces_only_its_own_kind(tmp_path):
    target = tmp_path / "model"
    for content in ("first", "second"):
        with write_folder_atomically(target, marker="manifest.json") as folder:
            (folder / "manifest.json").write_text(content)
            (folder / content).write_text("")
    assert sorted(os.listdir(target)) == ["manifest.json", "second"]
    assert os.listdir(tmp_path) == ["model"]

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("")
    (tmp_path / "file").write_text("")
    for precious in ("photos", "file"):
        with (
            pytest.raises(InputError, match=r"is not a folder with a manifest\.json"),
            write_folder_atomically(tmp_path / precious, marker="manifest.json"),
        ):
            pytest.fail("the body ran")
    assert (tmp_path / "photos" / "holiday.jpg").exists()


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "model"
    with write_folder_atomically(target, marker="m") as folder:
        (folder / "m").write_text("old")

    def write_and_fail():
        with write_folder_atomically(target, marker="m") as folder:
            (folder / "m").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert (target / "m").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_json_is_strict():
    content = {"a": float("nan"), 1: (np.float32(0.5), np.arange(2)), "b": [np.inf, None, True, "ü"], "p": Path("x")}
    text = json_text(content)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "1": [0.5, [0, 1]],
        "b": [None, None, True, "ü"],
        "p": "x",
    }
    assert "ü" in text


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    for path in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(InputError, match="cannot make the folder"):
            make_folder(path)
