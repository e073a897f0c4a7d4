"""The folder is judged before anything is read or trained."""

from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

import pytest

from robustvision.core.errors import InputError, TrainingError
from robustvision.core.training import checkpoints, read_checkpoint, train


@pytest.fixture
def no_data(toy, monkeypatch):
    """Fail the test if a data set is built."""

    def refuse(*args, **kwargs):
        pytest.fail("data were read")

    monkeypatch.setattr(toy.Squares, "__init__", refuse)


@pytest.mark.usefixtures("no_data")
def test_unusable_folders(toy, tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot use .* as the work folder"):
            train(toy.recipe(), work_dir=folder, quiet=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"not empty \(notes.txt\): choose a new one"):
        train(toy.recipe(), work_dir=tmp_path / "full", quiet=True)


@pytest.mark.usefixtures("no_data")
def test_a_folder_that_cannot_be_written_to(toy, tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(InputError, match=r"cannot write .*Read-only file system"):
        train(toy.recipe(), work_dir=tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_data")
def test_a_full_disk_is_found_before(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000_000))
    with pytest.raises(InputError, match=r"has 19 MiB free, and the checkpoints of this run need up to \d+ MiB"):
        train(toy.recipe(model={"width": 40_000}), work_dir=tmp_path, quiet=True)


def test_the_space_that_is_asked_for_is_the_space_that_is_used(toy, tmp_path, monkeypatch):
    """The estimate must cover what lies on the disk at worst, and not much more."""
    from robustvision.core.training import work_dir

    monkeypatch.setattr(work_dir, "_SLACK", 0)
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=asked.append(path) or 10**12))
    settings = {"ema": True, "model": {"width": 2000}, "epochs": 2}
    result = train(toy.recipe(**settings), work_dir=tmp_path / "run", quiet=True)
    assert asked
    used = sum(file.stat().st_size for file in result.work_dir.glob("*.pth"))
    used += result.last_checkpoint.stat().st_size + result.checkpoint.stat().st_size  # one of each while it is replaced
    for free, fits in ((1.2 * used, True), (0.8 * used, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        model = toy.Classifier(width=2000)
        if fits:
            work_dir.check_space(tmp_path, model, has_average=True, kept=2)
        else:
            with pytest.raises(InputError, match=r"free space"):
                work_dir.check_space(tmp_path, model, has_average=True, kept=2)


def test_a_disk_that_fills_up_while_training(toy, tmp_path, monkeypatch):
    save, calls = checkpoints.torch.save, []

    def save_twice(content, path):
        calls.append(path)
        if len(calls) > 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, path)

    monkeypatch.setattr(checkpoints.torch, "save", save_twice)
    with pytest.raises(TrainingError, match=r"is full: free space and go on with --resume"):
        train(toy.recipe(), work_dir=tmp_path, quiet=True)
    assert sorted(file.name for file in tmp_path.glob("*.pth")) == ["best.pth", "iter_6.pth"]
    assert not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    assert train(toy.recipe(), work_dir=tmp_path, resume=True, quiet=True).step == 18


def test_a_used_folder_says_what_to_do(toy, tmp_path):
    hook = {"type": toy.KillHook, "step": 2}
    with pytest.raises(toy.KilledError):
        train(toy.recipe(hooks=(hook,)), work_dir=tmp_path, quiet=True)
    with pytest.raises(InputError, match=r"ended before its first checkpoint"):
        train(toy.recipe(), work_dir=tmp_path, quiet=True)
    for file in tmp_path.iterdir():
        file.unlink()
    train(toy.recipe(epochs=1), work_dir=tmp_path, quiet=True)
    with pytest.raises(InputError, match=r"already holds a run \(iter_6.pth\): go on with it by --resume"):
        train(toy.recipe(), work_dir=tmp_path, quiet=True)


def test_left_overs_of_a_killed_writer_go(toy, tmp_path):
    train(toy.recipe(epochs=1), work_dir=tmp_path, quiet=True)
    for name in (".iter_7-0123abcd.pth", ".best-0123abcd.pth"):
        (tmp_path / name).write_bytes(b"half")
    train(toy.recipe(epochs=2), work_dir=tmp_path, resume=True, quiet=True)
    assert not list(tmp_path.glob(".*"))
    assert read_checkpoint(tmp_path / "iter_12.pth")["meta"]["iter"] == 12
