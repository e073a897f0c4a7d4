"""Samples from tiles: the label stays under its image, every pixel counts once, and a sample has no history."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustvision.buildings.data import Augmentation, BuildingDataset, Tile
from robustvision.core.errors import InputError

ONLY_TURNS = {"brightness": 0, "contrast": 0, "gamma": 0, "colour": 0}


def tile(height: int = 64, width: int = 64, *, name: str = "a", seed: int = 0, valid: np.ndarray | None = None) -> Tile:
    """A tile whose label can be read off its image: a building where red is above 127."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Tile(name, image, (image[..., 0] > 127).astype(np.uint8), valid)


def test_a_sample_is_what_the_contract_says() -> None:
    sample = BuildingDataset([tile()])[0]
    assert sample["image"].shape == (3, 64, 64)
    assert sample["image"].dtype == torch.uint8
    for name in ("label", "valid"):
        assert sample[name].shape == (1, 64, 64)
        assert sample[name].dtype == torch.float32
    assert sample["index"] == 0
    assert sample["valid"].all()
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), tile().image)
    np.testing.assert_array_equal(sample["label"][0], tile().label)


def test_image_label_and_valid_turn_and_crop_together() -> None:
    source = tile(90, 70)
    marked = Tile("a", source.image, source.label, source.image[..., 1] > 100)
    data = BuildingDataset([marked], size_px=48, augmentation=ONLY_TURNS)
    for epoch in range(30):
        sample = data[epoch, 0]
        assert torch.equal(sample["label"][0] == 1, sample["image"][0] > 127)
        assert torch.equal(sample["valid"][0] == 1, sample["image"][1] > 100)


def test_all_eight_symmetries_are_drawn_and_nothing_else() -> None:
    source = tile(32, 32)
    data = BuildingDataset([source], augmentation=ONLY_TURNS)
    seen = {data[epoch, 0]["image"].numpy().tobytes() for epoch in range(200)}
    turned = [np.rot90(each, turn) for each in (source.image, source.image[:, ::-1]) for turn in range(4)]
    assert seen == {np.ascontiguousarray(each.transpose(2, 0, 1)).tobytes() for each in turned}


def test_light_changes_the_image_within_its_limits_and_leaves_the_label() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    data = BuildingDataset([Tile("a", ramp, np.zeros((256, 256), np.uint8))], augmentation={"turns": False})
    limits = Augmentation()
    for epoch in range(40):
        sample = data[epoch, 0]
        rows = sample["image"][:, 0].numpy().astype(float)
        assert (np.diff(rows) >= 0).all(), "brighter stays brighter"
        middle = 128 / 255
        low = (middle ** (1 + limits.gamma) - 0.5) * (1 + limits.contrast) + 0.5 - limits.brightness
        high = (middle ** (1 / (1 + limits.gamma)) - 0.5) * (1 + limits.contrast) + 0.5 + limits.brightness
        assert (rows[:, 128] >= 255 * low * (1 - limits.colour) - 1).all()
        assert (rows[:, 128] <= 255 * high * (1 + limits.colour) + 1).all()
        assert not sample["label"].any()
    assert not torch.equal(data[0, 0]["image"], data[1, 0]["image"])


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    tiles = [tile(80, 80, seed=number) for number in range(3)]
    first, second = (BuildingDataset(tiles, size_px=64, augmentation={}, seed=5) for _ in range(2))
    for key in ((2, 1), (0, 0)):
        second[7, 2]  # whatever was read before
        assert torch.equal(first[key]["image"], second[key]["image"])
    assert torch.equal(first[1]["image"], first[0, 1]["image"])
    assert not torch.equal(first[0, 1]["image"], first[1, 1]["image"])
    other = BuildingDataset(tiles, size_px=64, augmentation={}, seed=6)
    assert not torch.equal(first[0, 1]["image"], other[0, 1]["image"])


@pytest.mark.parametrize(("height", "width", "size"), [(100, 130, 64), (64, 64, 64), (50, 90, 64), (128, 65, 32)])
def test_in_evaluation_every_pixel_counts_once(height: int, width: int, size: int) -> None:
    source = tile(height, width)
    data = BuildingDataset([source], size_px=size)
    count = np.zeros((height, width))
    positive = 0.0
    for index in range(len(data)):
        sample = data[index]
        _, row, column = data.windows[index]
        window = slice(row, row + size), slice(column, column + size)
        valid = sample["valid"][0].numpy()
        inside = count[window].shape
        count[window] += valid[: inside[0], : inside[1]]
        assert valid[inside[0] :].sum() == valid[:, inside[1] :].sum() == 0
        np.testing.assert_array_equal(sample["label"][0, : inside[0], : inside[1]], source.label[window])
        positive += float((sample["label"] * sample["valid"]).sum())
    assert (count == 1).all()
    assert positive == source.label.sum()


def test_a_small_tile_is_reflected_and_the_rest_is_not_valid() -> None:
    source = tile(40, 40)
    for data in (BuildingDataset([source], size_px=64), BuildingDataset([source], size_px=64, augmentation=ONLY_TURNS)):
        sample = data[0]
        assert sample["valid"].sum() == 40 * 40
        assert torch.equal(sample["label"][0] == 1, sample["image"][0] > 127)


def test_tiles_are_kept_as_given_and_never_written_to() -> None:
    source = tile(100, 100, valid=np.ones((100, 100), bool))
    before = source.image.copy(), source.label.copy()
    data = BuildingDataset([source], size_px=64)
    for index in range(len(data)):
        for value in list(data[index].values())[:3]:
            value.zero_()
    assert data.tiles[0] is source
    assert source.valid is not None
    assert source.valid.all()
    np.testing.assert_array_equal(source.image, before[0])
    np.testing.assert_array_equal(source.label, before[1])


def test_the_fingerprint_follows_the_data() -> None:
    first, same, other = (BuildingDataset([tile(seed=seed)]) for seed in (0, 0, 1))
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    assert BuildingDataset([tile()], size_px=32).fingerprint() != first.fingerprint()
    assert first.metainfo["num_tiles"] == 1


@pytest.mark.parametrize(
    ("tiles", "size", "message"),
    [
        ([], None, "no tiles"),
        ([tile(), tile(32, 32, name="b")], None, "pass size_px"),
        ([tile(32, 64)], None, "pass size_px"),
        ([Tile("b", tile().image, tile(32, 32).label)], None, "one size"),
        ([Tile("b", tile().image.astype(np.float32), tile().label)], None, "uint8"),
        ([Tile("b", tile().image, tile().label * 255)], None, "255"),
        ([tile(valid=np.ones((3, 3), bool))], None, "valid"),
        ([tile()], 0, "size_px"),
    ],
)
def test_what_does_not_fit_is_named(tiles: list[Tile], size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BuildingDataset(tiles, size_px=size)


def test_an_augmentation_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match="gamma"):
        Augmentation(gamma=1.5)
