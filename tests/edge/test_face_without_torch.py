"""The face pipeline where there is no torch: shipped model, decisions, commands, and errors that name the extra."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustvision.core.errors import MissingExtraError
from robustvision.face import FaceRecognizer
from robustvision.face.synthetic import SyntheticFaces

SCRIPTS = Path(sys.executable).parent


def command(*args):
    return subprocess.run([SCRIPTS / args[0], *map(str, args[1:])], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(4, 3, split="test", seed=3, strength=0.3).arrays(workers=1, quiet=True)


def test_there_is_no_torch_here():
    assert all(importlib.util.find_spec(name) is None for name in ("torch", "mmengine", "onnx", "matplotlib"))


def test_the_shipped_model_recognises_rendered_people(faces):
    recognizer = FaceRecognizer.synthetic()
    assert recognizer.model.self_test().ok
    embeddings = recognizer.embed(faces.images)
    decisions = [
        recognizer.compare(embeddings[0], other, threshold=0.5).same_person == (label == faces.labels[0])
        for other, label in zip(embeddings[1:], faces.labels[1:], strict=True)
    ]
    assert np.mean(decisions) > 0.8


def test_names_of_the_training_half_say_which_extra_they_need():
    import robustvision.core.losses as losses
    import robustvision.face as face

    with pytest.raises(MissingExtraError, match=r"FaceModel needs .*: pip install 'robustvision-face\[train\]'"):
        face.FaceModel  # noqa: B018
    with pytest.raises(MissingExtraError, match=r"SFaceLoss needs torch: pip install 'robustvision-core\[train\]'"):
        losses.SFaceLoss  # noqa: B018


def test_commands_that_need_no_torch_run(tmp_path):
    model = FaceRecognizer.synthetic().model.path
    told = command("robustvision", "info", model, "--check", "--json")
    assert json.loads(told.stdout)["self_test"]["ok"] is True
    assert command("robustvision", "face", "--help").returncode == 0
    done = command("robustvision-face", "synthesize", tmp_path / "faces", "--identities", 3, "--images", 2, "--json")
    assert json.loads(done.stdout)["images"] == 6
    assert command("robustvision-face", "check", tmp_path / "faces").returncode == 0
    assert command("robustvision", "doctor").returncode == 0


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        (("robustvision-face", "train", "tiny"), "robustvision-core[train]"),
        (("robustvision-face", "repair", "x.onnx"), "robustvision-core[onnx]"),
        (("robustvision-face", "predict", "x.png"), "robustvision-core[detector]"),
        (("robustvision", "demo"), "robustvision-core[train]"),
    ],
)
def test_commands_that_need_an_extra_name_it_in_one_line(args, extra, tmp_path):
    done = subprocess.run([SCRIPTS / args[0], *args[1:]], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert extra in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
