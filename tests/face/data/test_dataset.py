"""The data set: the sample contract, augmentation without a state, label noise with the truth kept."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from robustvision.core.errors import InputError
from robustvision.face.data import FaceArrays, FaceDataset, files_dataset, synthetic_dataset


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 112, 112, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(8), 5)
    return FaceArrays(images, labels, labels, 8)


def test_the_sample_contract(arrays):
    dataset = FaceDataset(arrays, flip=0)
    sample = dataset[7]
    assert set(sample) == {"image", "label", "index"}
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].is_contiguous()
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), arrays.images[7])
    assert (sample["label"], sample["index"]) == (1, 7)
    assert isinstance(sample["label"], int)
    assert len(dataset) == 40


def test_batches_have_the_types_that_training_takes(arrays):
    batch = next(iter(DataLoader(FaceDataset(arrays), batch_size=5)))
    assert batch["image"].shape == (5, 3, 112, 112)
    assert batch["label"].dtype == torch.int64


def test_flips_depend_on_seed_epoch_and_index_alone(arrays):
    dataset = FaceDataset(arrays, seed=3)
    mirrored = torch.from_numpy(arrays.images.transpose(0, 3, 1, 2).copy()).flip(3)

    def flips(data, epoch):
        return [bool((data[epoch, index]["image"] == mirrored[index]).all()) for index in range(40)]

    first, second = flips(dataset, 0), flips(dataset, 1)
    assert flips(dataset, 0) == first  # not changed by what was read before
    assert flips(pickle.loads(pickle.dumps(dataset)), 1) == second
    assert first != second
    assert flips(FaceDataset(arrays, seed=4), 0) != first
    assert 8 <= sum(first) <= 32  # 6 in 100,000 fall outside
    assert torch.equal(dataset[5]["image"], dataset[0, 5]["image"])
    assert all(flips(FaceDataset(arrays, flip=1), 0))
    assert not any(flips(FaceDataset(arrays, flip=0), 0))


def test_the_source_stays_as_it_was(arrays):
    before = arrays.images[0].copy()
    FaceDataset(arrays, flip=0)[0]["image"].zero_()
    np.testing.assert_array_equal(arrays.images[0], before)


def test_a_loop_ends(arrays):
    assert len(list(FaceDataset(arrays))) == 40


def test_noise_keeps_the_truth(arrays):
    dataset = FaceDataset(arrays, noise={"flip": 0.4}, noise_seed=1)
    assert dataset.is_noisy.sum() == 16
    np.testing.assert_array_equal(dataset.clean_labels, arrays.labels)
    assert [dataset[index]["label"] for index in range(40)] == dataset.labels.tolist()
    other = FaceDataset(arrays, noise={"flip": 0.4}, noise_seed=2)
    assert not np.array_equal(dataset.labels, other.labels)
    assert dataset.fingerprint() != other.fingerprint() != FaceDataset(arrays).fingerprint()
    split = FaceDataset(arrays, noise={"conflict": 0.5})
    assert split.num_classes == 12
    assert split.metainfo["num_classes"] == 12


def test_metainfo_is_plain(arrays):
    metainfo = FaceDataset(arrays).metainfo
    assert metainfo == {"num_classes": 8, "num_images": 40, "fingerprint": FaceDataset(arrays).fingerprint()}


def test_the_fingerprint_follows_pixels_and_labels(arrays):
    images, labels = arrays.images.copy(), arrays.labels.copy()
    images[3, 50, 50, 1] ^= 1
    labels[0] = 1
    prints = {
        FaceDataset(FaceArrays(*parts, 8)).fingerprint()
        for parts in (
            (arrays.images, arrays.labels, arrays.labels),
            (images, arrays.labels, arrays.labels),
            (arrays.images, labels, labels),
        )
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.arange(40.0)}, "labels are float64"),
        ({"labels": np.arange(40) - 1}, "label -1 of image 0"),
        ({"labels": np.arange(40)}, "label 8 of image 8 is not in 0..7"),
        ({"labels": np.zeros(39, int)}, r"expected whole numbers \[40\]"),
        ({"clean_labels": np.full(40, -2)}, "label -2 of image 0 is not in -1..7"),
        ({"images": np.zeros((40, 112, 96, 3), np.uint8)}, "expected uint8"),
        ({"images": np.zeros((40, 112, 112, 3), np.float32)}, "expected uint8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, change, message):
    parts = {"images": arrays.images, "labels": arrays.labels, "clean_labels": arrays.labels} | change
    with pytest.raises(InputError, match=message):
        FaceArrays(**parts, num_classes=8)


def test_options_that_do_not_fit_are_refused(arrays):
    with pytest.raises(InputError, match="flip is 2"):
        FaceDataset(arrays, flip=2)
    with pytest.raises(InputError, match="open-set noise needs images"):
        FaceDataset(arrays, noise={"open_set": 0.1})
    empty = FaceArrays(arrays.images[:0], arrays.labels[:0], arrays.labels[:0], 8)
    with pytest.raises(InputError, match="holds no images"):
        FaceDataset(empty)


def test_folder_and_list_make_the_same_data_set(tree, face_list):
    from_folder, from_list = files_dataset(tree, flip=0), files_dataset(face_list, flip=0)
    assert (len(from_folder), len(from_list)) == (7, 6)
    assert torch.equal(from_folder[5]["image"], from_list[4]["image"])
    assert from_folder[5]["label"] == from_list[4]["label"] == 2
    assert files_dataset(face_list, num_classes=9).num_classes == 9


def test_rendered_faces_follow_the_contract():
    dataset = synthetic_dataset(4, 3, noise={"flip": 0.5}, flip=0, workers=1, quiet=True)
    assert dataset[11]["image"].shape == (3, 112, 112)
    assert dataset.is_noisy.sum() == 6
    assert dataset.clean_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_draws_of_noise_share_the_pictures_but_outsiders_do_not():
    options = {"num_identities": 4, "images_per_identity": 3, "workers": 1, "quiet": True}
    clean, flipped, opened = (
        synthetic_dataset(**options, noise=noise) for noise in (None, {"flip": 0.5}, {"open_set": 0.25})
    )
    assert flipped.source.images is clean.source.images
    assert flipped.is_noisy.sum() == 6
    assert not clean.is_noisy.any()
    differs = (opened.source.images != clean.source.images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(differs, opened.is_noisy)
    assert differs.sum() == 3
