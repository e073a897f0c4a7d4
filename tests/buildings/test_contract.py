"""What a model file says about preprocessing, and that it is what happens."""

import json

import numpy as np
import pytest

from robustvision.buildings.contract import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, read_preprocessing
from robustvision.core.errors import ModelError


def test_a_picture_is_normalised_as_the_manifest_says():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    found = Preprocessing().normalise(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=2e-6)
    np.testing.assert_array_equal(Preprocessing().normalise(np.stack([image, image]))[1], found)


def test_what_is_written_is_read_back():
    settings = Preprocessing(tile_px=128, stride_px=96, multiple=8, target="footprint", gsd_m=(0.3, 1.2))
    assert read_preprocessing(settings.entry(), "m.onnx") == settings


@pytest.mark.parametrize(
    "change",
    [{"tile_px": 100}, {"stride_px": 0}, {"std": [1, 0, 1]}, {"mean": [0, 1]}, {"target": "garden"}, {"gsd_m": 3}],
)
def test_a_manifest_that_cannot_be_used_is_refused_by_name(change):
    with pytest.raises(ModelError, match=r"m\.onnx: its manifest's preprocessing cannot be used"):
        read_preprocessing(Preprocessing().entry() | change, "m.onnx")


@pytest.mark.parametrize("name", ["tile_px", "mean", "target", "gsd_m"])
def test_a_missing_entry_is_refused(name):
    entry = Preprocessing().entry()
    del entry[name]
    with pytest.raises(ModelError, match="export it again"):
        read_preprocessing(entry, "m.onnx")


def test_a_scale_is_read_back():
    settings = Preprocessing(scale=((0.0, 2047.0), (10.0, 1500.0), (0.0, 900.0)))
    assert read_preprocessing(json.loads(json.dumps(settings.entry())), "m.onnx") == settings
