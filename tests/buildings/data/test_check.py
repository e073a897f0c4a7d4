"""The check of a data set: each fault gives its finding, a sound set none."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

from robustvision.buildings.data import Tile, TileSource, best_shift, check_dataset, match_map
from robustvision.buildings.synthetic import SyntheticScenes, tiles
from robustvision.core.errors import InputError
from robustvision.core.findings import Finding


@pytest.fixture(scope="module")
def sound() -> list[Tile]:
    """Exact roofs of mid-rise buildings."""
    return tiles(SyntheticScenes(8, classes=("mid",), size_px=192, seed=3), label="roof", workers=1, quiet=True)


@pytest.fixture(scope="module")
def footprints() -> list[Tile]:
    return tiles(SyntheticScenes(8, classes=("mid",), size_px=192, seed=3), label="footprint", workers=1, quiet=True)


def sources(parts: list[Tile]) -> list[TileSource]:
    return [TileSource(tile.name, partial(dataclasses.replace, tile), tile.group) for tile in parts]


def check(parts: list[Tile] | dict[str, list[Tile]], **options) -> list[Finding]:
    if isinstance(parts, dict):
        return check_dataset({name: sources(each) for name, each in parts.items()}, quiet=True, **options)
    return check_dataset(sources(parts), quiet=True, **options)


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_sound_set_has_no_findings(sound) -> None:
    assert check({"train": sound[:4], "test": sound[4:]}, gsd_m=0.6) == []


def test_footprints_under_leaning_roofs_lie_beside_the_image(footprints) -> None:
    finding = only(check(footprints))
    assert finding.level == "warning"
    assert "fit the image better when moved" in finding.what
    assert "adapt" in finding.advice


@pytest.mark.parametrize(("dx", "dy"), [(7, -4), (-12, 0), (0, 20)])
def test_the_shift_of_a_moved_label_is_found_exactly(sound, dx, dy) -> None:
    total = np.zeros((65, 65))
    for tile in sound:
        moved = np.zeros_like(tile.label)
        moved[40:-40, 40:-40] = np.roll(tile.label, (-dy, -dx), axis=(0, 1))[40:-40, 40:-40]
        match = match_map(dataclasses.replace(tile, label=moved))
        assert match is not None
        total += match
    shift = best_shift(total)
    assert (shift.dx_px, shift.dy_px) == (dx, dy)
    assert shift.score > 4
    assert shift.length_px == pytest.approx(np.hypot(dx, dy))


def test_a_match_needs_an_outline_and_room(sound) -> None:
    empty = dataclasses.replace(sound[0], label=np.zeros_like(sound[0].label))
    small = Tile("a", sound[0].image[:40, :40], sound[0].label[:40, :40])
    assert match_map(empty) is None
    assert match_map(small) is None


def test_the_edge_of_the_data_is_no_edge_of_a_building(sound) -> None:
    """A frame of no data around a picture: its outline would match itself."""
    valid = np.zeros(sound[0].label.shape, bool)
    valid[30:-30, 30:-30] = True
    image = sound[0].image * valid[..., None]
    framed = dataclasses.replace(sound[0], image=image, valid=valid, label=valid.astype(np.uint8))
    assert match_map(framed) is None


def test_inverted_masks_are_an_error(sound) -> None:
    inverted = [
        dataclasses.replace(tile, label=np.pad(np.zeros((20, 20), np.uint8), ((0, 172), (0, 172)), constant_values=1))
        for tile in sound
    ]
    found = [one for one in check(inverted) if one.level == "error"]
    assert "98.9% of all pixels are building: the masks are inverted" in only(found).what


def test_one_full_tile_is_a_warning(sound) -> None:
    full = dataclasses.replace(sound[0], label=np.ones_like(sound[0].label))
    finding = only(check([full, *sound[1:]]))
    assert finding.level == "warning"
    assert f"in 1 of 8 tiles: {full.name}" in finding.what


def test_labels_without_any_building_are_an_error(sound) -> None:
    empty = [dataclasses.replace(tile, label=np.zeros_like(tile.label)) for tile in sound]
    assert only(check(empty)).level == "error"


def test_mostly_empty_labels_are_a_warning(sound) -> None:
    empty = [
        dataclasses.replace(tile, name=f"{tile.name}-{turn}", image=np.rot90(tile.image, turn), label=tile.label * 0)
        for tile in sound
        for turn in range(3)
    ]
    assert "96% of the tiles hold no building" in only(check([*empty, sound[0]])).what


def test_sizes_and_missing_data(sound) -> None:
    thin = dataclasses.replace(sound[1], valid=np.arange(192)[:, None].repeat(192, 1) < 60)
    small = Tile("small", sound[0].image[:100, :90], sound[0].label[:100, :90], gsd_m=0.6)
    findings = check([small, thin, *sound[2:]])
    assert ["from 90 x 100 to 192 x 192 px" in one.what for one in findings] == [True, False]
    assert f"more than half of 1 tiles has no data: {thin.name}" in findings[1].what


def test_a_wrong_ground_sampling_distance(sound) -> None:
    """Web Mercator's 0.597 m at latitude -37.81 is 0.472 m."""
    at_ground = [dataclasses.replace(tile, gsd_m=0.472) for tile in sound]
    assert "pixels are 0.472 m on the ground, not 0.597 m" in only(check(at_ground, gsd_m=0.597)).what
    mixed = [dataclasses.replace(tile, gsd_m=0.3 if number else 0.6) for number, tile in enumerate(sound)]
    assert "0.3 to 0.6 m" in only(check(mixed)).what


def test_a_picture_in_two_parts_is_an_error(sound) -> None:
    copy = dataclasses.replace(sound[1], name="copy", image=np.rot90(sound[1].image), label=np.rot90(sound[1].label))
    finding = only(check({"train": sound[:4], "validation": sound[4:6], "test": [*sound[6:], copy]}))
    assert (finding.level, finding.where) == ("error", "test")
    assert f"1 of 3 tiles are in train too, 0 pixel by pixel: copy is {sound[1].name}" in finding.what


def test_files_that_cannot_be_read_are_errors_and_come_first(sound) -> None:
    def broken() -> Tile:
        raise InputError("a.tif is cut short")

    bad = [TileSource(f"bad{number}", broken) for number in range(7)]
    small = Tile("small", sound[0].image[:100, :100], sound[0].label[:100, :100])
    findings = check_dataset([*sources([small, *sound[1:]]), *bad], quiet=True)
    assert [one.level for one in findings] == ["error"] * 6 + ["warning"]
    assert (findings[0].where, findings[0].what) == ("all: bad0", "a.tif is cut short")
    assert "2 more tiles" in findings[5].what


def test_nothing_to_check() -> None:
    with pytest.raises(InputError, match="no tiles to check"):
        check_dataset({"train": []}, quiet=True)
