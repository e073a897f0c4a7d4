"""The runtime in an environment that has only the base install; `make test` runs this folder there as well."""

import importlib.util
import operator
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from robustvision.core import runtime
from robustvision.core.errors import InputError, MissingExtraError, ModelError

TRAINING_HALF = ("torch", "torchvision", "mmengine", "albumentations", "matplotlib", "onnx", "onnxscript")
TINY = Path(__file__).with_name("data") / "tiny.onnx"
IS_EDGE = Path(sys.prefix).name == ".venv-edge"


@pytest.mark.skipif(not IS_EDGE, reason="this is the training environment")
def test_the_training_half_is_not_installed_here():
    assert [name for name in TRAINING_HALF if importlib.util.find_spec(name)] == []


def test_using_the_runtime_imports_nothing_of_the_training_half():
    code = f"""
import pkgutil, sys
import numpy as np
from robustvision.core import runtime
for module in pkgutil.iter_modules(runtime.__path__):
    __import__(f"robustvision.core.runtime.{{module.name}}")
for name in runtime.__all__:
    getattr(runtime, name)
runtime.open_model({str(TINY)!r}).self_test()
runtime.run_ordered(abs, [1, -2], workers=1, label="x")
print(sorted(set({TRAINING_HALF!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_model_opens_runs_and_tests_itself():
    model = runtime.open_model(TINY, task="tiny")
    x = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(model.main(x)[0], 2 * x + 1, rtol=1e-6)
    assert model.self_test().ok
    exec(runtime.python_snippet(model.manifest, TINY), {})


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is a model for tiny"):
        runtime.open_model(TINY, task="face-recognition")
    with pytest.raises(InputError, match="float32"):
        runtime.open_model(TINY).main(np.zeros((1, 3, 4, 4)))
    (tmp_path / "torn.onnx").write_bytes(TINY.read_bytes()[:300])
    with pytest.raises(ModelError):
        runtime.open_model(tmp_path / "torn.onnx")


def test_images_and_films_are_read(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = (250, 10, 20)
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    np.testing.assert_array_equal(runtime.read_image(tmp_path / "a.png"), picture)
    assert runtime.image_size(tmp_path / "a.png") == (64, 48)

    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 48))
    for _ in range(5):
        writer.write(picture[..., ::-1])
    writer.release()
    with runtime.open_video(tmp_path / "a.avi") as film:
        frames = list(film)
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], np.arange(5) / 20)
    assert np.abs(frames[0].image[:, :24].mean(axis=(0, 1)) - (250, 10, 20)).max() < 6


def test_workers_work():
    assert runtime.run_ordered(operator.neg, range(4), workers=2) == [0, -1, -2, -3]


@pytest.mark.skipif(not IS_EDGE, reason="the extras are installed in the training environment")
def test_missing_extras_are_named():
    with pytest.raises(MissingExtraError, match=r"robustvision-core\[detector\]"):
        runtime.FaceDetector()
    with pytest.raises(MissingExtraError, match=r"robustvision-core\[ray\]"):
        runtime.run_ordered(abs, [1], backend="ray")
