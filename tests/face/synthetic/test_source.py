"""Rendered data sets: noise, imbalance, processes and the cache change what they say and nothing else."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from robustvision.core.data import OUTSIDE, LabelNoise
from robustvision.core.errors import InputError
from robustvision.face.synthetic import SyntheticFaces
from robustvision.face.synthetic import source as source_module


def test_noise_changes_labels_and_not_pictures():
    clean, noisy = SyntheticFaces(8, 4), SyntheticFaces(8, 4, noise=LabelNoise(flip=0.5), noise_seed=1)
    assert noisy.is_noisy.sum() == 16
    np.testing.assert_array_equal(noisy.clean_labels, clean.labels)
    place = int(np.flatnonzero(noisy.is_noisy)[0])
    np.testing.assert_array_equal(noisy.image(place), clean.image(place))
    assert clean.fingerprint() != noisy.fingerprint()


def test_open_set_pictures_show_somebody_else():
    clean, noisy = SyntheticFaces(8, 4), SyntheticFaces(8, 4, noise=LabelNoise(open_set=0.25))
    outside = np.flatnonzero(noisy.clean_labels == OUTSIDE)
    assert len(outside) == 8
    np.testing.assert_array_equal(noisy.labels, clean.labels)
    members = {clean.identity(index).vector.tobytes() for index in range(len(clean))}
    strangers = {noisy.identity(int(index)).vector.tobytes() for index in outside}
    assert len(strangers) == 8
    assert not strangers & members
    for index in range(len(clean)):
        if index not in outside:
            assert noisy.identity(index) is clean.identity(index)


def test_identities_can_be_frequent_and_rare():
    faces = SyntheticFaces(11, 100, imbalance=100)
    assert faces.counts.tolist() == [round(100 * 100 ** (-rank / 10)) for rank in range(11)]
    assert faces.counts[[0, 5, 10]].tolist() == [100, 10, 1]
    assert len(faces) == faces.counts.sum() == len(faces.labels)


def test_unidentifiable_pictures_have_no_face_left():
    faces = SyntheticFaces(10, 4, unidentifiable=0.25)
    assert faces.is_unidentifiable.sum() == 10

    def detail(image):
        return cv2.Laplacian(cv2.GaussianBlur(image, (0, 0), 2), cv2.CV_64F).std()

    details = np.array([detail(faces.image(index)) for index in range(40)])
    assert details[faces.is_unidentifiable].max() < np.median(details[~faces.is_unidentifiable]) / 2
    assert all(faces.nuisance(int(index)).quality == 0 for index in np.flatnonzero(faces.is_unidentifiable))


def test_processes_render_what_one_does(monkeypatch):
    monkeypatch.setattr(source_module, "_CHUNK", 3)
    faces = SyntheticFaces(8, 3)
    alone, together = faces.arrays(workers=1, quiet=True), faces.arrays(workers=2, quiet=True)
    for name in ("images", "labels", "landmarks", "quality"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
    np.testing.assert_array_equal(alone.images[17], faces.image(17))


def test_pictures_are_kept_and_shared_between_draws_of_noise(tmp_path):
    faces = SyntheticFaces(3, 2)
    first = faces.arrays(workers=1, cache_dir=tmp_path, quiet=True)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    noisy = dataclasses.replace(faces, noise=LabelNoise(flip=0.5), noise_seed=9)
    second = noisy.arrays(workers=1, cache_dir=tmp_path, quiet=True)
    np.testing.assert_array_equal(first.images, second.images)
    assert second.is_noisy.sum() == 3
    assert file.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [file]
    dataclasses.replace(faces, seed=1).arrays(workers=1, cache_dir=tmp_path, quiet=True)
    dataclasses.replace(faces, noise=LabelNoise(open_set=0.5)).arrays(workers=1, cache_dir=tmp_path, quiet=True)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_cache_is_rendered_anew(tmp_path):
    faces = SyntheticFaces(3, 2)
    first = faces.arrays(workers=1, cache_dir=tmp_path, quiet=True)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:5000])
    np.testing.assert_array_equal(faces.arrays(workers=1, cache_dir=tmp_path, quiet=True).images, first.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, "split 'val'"),
        ({"num_identities": 0}, "0 identities"),
        ({"images_per_identity": 0}, "with 0 images"),
        ({"strength": -1.0}, "strength -1"),
        ({"imbalance": 0.5}, r"imbalance 0\.5"),
        ({"unidentifiable": 1.0}, r"unidentifiable 1\.0"),
    ],
)
def test_parameters_out_of_range_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        SyntheticFaces(**{"num_identities": 2, "images_per_identity": 2} | change)
