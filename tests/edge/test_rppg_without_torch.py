"""The pulse estimator where there is no torch: shipped model, classical methods, commands, errors that say why."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robustvision.core.errors import MissingExtraError
from robustvision.rppg import PulseEstimator
from robustvision.rppg.models import shipped_model
from robustvision.rppg.synthetic import SyntheticPulse

SCRIPTS = Path(sys.executable).parent


def command(*args):
    return subprocess.run([SCRIPTS / args[0], *map(str, args[1:])], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("estimator", [PulseEstimator.synthetic, lambda: PulseEstimator("pos")])
def test_a_rendered_face_has_its_heart_rate(estimator):
    recording = SyntheticPulse(1, split="test", seed=4, seconds=15.0)[0]
    opened = estimator()
    for image, time_s, box in zip(recording.frames(), recording.timestamps_s, recording.boxes_xywh, strict=True):
        opened.push(image, float(time_s), box)
    result = opened.result()
    assert result.heart_rate_bpm == pytest.approx(recording.conditions["heart_rate_bpm"], abs=5)
    assert not {"torch", "mmengine", "matplotlib"} & set(sys.modules)


def test_names_of_the_training_half_say_which_extra_they_need():
    import robustvision.rppg as rppg

    with pytest.raises(MissingExtraError, match=r"PulseModel needs .*: pip install 'robustvision-rppg\[train\]'"):
        rppg.PulseModel  # noqa: B018


def test_commands_that_need_no_torch_run(tmp_path):
    told = command("robustvision", "info", shipped_model(), "--check", "--json")
    assert json.loads(told.stdout)["self_test"]["ok"] is True
    assert command("robustvision", "rppg", "--help").returncode == 0
    args = ("--layout", "pure", "--recordings", 1, "--seconds", 2, "--size", 64, "--json")
    done = command("robustvision-rppg", "synthesize", tmp_path / "tree", *args)
    assert json.loads(done.stdout)["recordings"] == 1


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        (("robustvision-rppg", "train", "tiny"), "robustvision-core[train]"),
        (("robustvision-rppg", "evaluate", "--model", "pos"), "robustvision-core[train]"),
        (("robustvision-rppg", "predict", "nothing.mp4", "--model", "pos"), "nothing.mp4"),
    ],
)
def test_commands_that_cannot_run_say_why_in_one_line(args, extra, tmp_path):
    done = subprocess.run([SCRIPTS / args[0], *args[1:]], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert extra in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
