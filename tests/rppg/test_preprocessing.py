"""Crops, skin means, tracking and the time grid, against what they must be."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.runtime import Faces
from robustvision.rppg.preprocessing import Preprocessing, prepare
from robustvision.rppg.skin import skin_mean, skin_weights
from robustvision.rppg.time_grid import MAX_GAP_S, TimeGrid
from robustvision.rppg.tracking import BoxTracker

BARE = Preprocessing(size_px=8, enlarge=1.0)
BOX = np.array([4.0, 4.0, 24.0, 24.0])


def noise(height: int = 60, width: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shifted(by_px: float) -> np.ndarray:
    return BOX + np.array([by_px, 0, 0, 0])


class Seen:
    """A detector that finds what it is told to, frame by frame, and then goes on with the last."""

    def __init__(self, *frames: list[list[float]]) -> None:
        self._frames, self.calls = list(frames), 0

    def detect(self, image: np.ndarray) -> Faces:
        boxes = np.array(self._frames[min(self.calls, len(self._frames) - 1)], np.float32).reshape(-1, 4)
        self.calls += 1
        return Faces(boxes, np.zeros((len(boxes), 5, 2), np.float32), np.ones(len(boxes), np.float32))


def test_a_crop_is_the_mean_over_each_block_of_pixels():
    image = noise()
    blocks = image[10:34, 50:74].astype(np.float64).reshape(8, 3, 8, 3, 3).mean(axis=(1, 3))
    assert np.abs(BARE.crop(image, [50, 10, 24, 24]) - blocks).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("side", [145, 225, 288, 441, 1000])
def test_a_large_face_is_averaged_as_well(side):
    """It is halved first: still the mean over the area of each pixel, here of a wave of 3 and 2 periods.

    The wave changes by up to 48 from pixel to pixel, and what is left out at the border moves it by a quarter of one.
    """
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    picture = 127 + 60 * np.cos(6 * np.pi * x) + 50 * np.cos(4 * np.pi * y)
    crop = Preprocessing(36, enlarge=1.0).crop(
        np.repeat(picture[..., None], 3, axis=2).round().astype(np.uint8), [0, 0, side, side]
    )
    edges = np.arange(37) / 36
    wave_x, wave_y = (np.diff(np.sin(k * np.pi * edges)) / (k * np.pi) * 36 for k in (6, 4))
    assert np.abs(crop - (127 + 60 * wave_x[:, None] + 50 * wave_y[:, None, None])).max() < 12
    assert np.abs(crop.mean(axis=(0, 1)) - picture.mean()).max() < 1  # each halving rounds a half up


def test_edges_are_rounded_and_not_cut_off():
    assert BARE.pixel_edges((60, 100, 3), [10.6, 5.4, 20.0, 20.0]) == (11, 5, 31, 25)


def test_the_box_grows_about_its_centre():
    assert Preprocessing(enlarge=1.5).pixel_edges((60, 100, 3), [40, 20, 20, 10]) == (35, 18, 65, 33)


def test_beyond_the_border_only_what_is_seen_counts():
    image = noise()
    seen = BARE.crop(image, [92, 20, 8, 16])
    assert np.array_equal(BARE.crop(image, [92, 20, 16, 16]), seen)
    assert np.array_equal(BARE.crop(image[:, ::-1], [-8, 20, 16, 16]), BARE.crop(image[:, ::-1], [0, 20, 8, 16]))


def test_x_and_y_of_a_landscape_frame_are_not_swapped():
    image = np.zeros((60, 100, 3), np.uint8)
    image[10:20, 80:95] = 255
    assert BARE.crop(image, [80, 10, 15, 10]).min() == 255


@pytest.mark.parametrize("box", [[200, 0, 10, 10], [-20, 0, 10, 10], [0, 0, 0, 10], [0, 0, 10, -1], [np.nan] * 4])
def test_a_box_that_shows_nothing_is_refused(box):
    with pytest.raises(InputError, match="shows nothing of the image of 100x60 px"):
        BARE.crop(noise(), box)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((60, 100), np.uint8),
        np.zeros((60, 100, 1), np.uint8),
        np.zeros((60, 100, 4), np.uint8),
        np.zeros((60, 100, 3), np.uint16),
        np.full((60, 100, 3), np.nan),
        np.zeros((0, 100, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_what_is_no_rgb_frame_is_refused(image):
    with pytest.raises(InputError, match=r"uint8"):
        BARE.crop(image, BOX)


@pytest.mark.parametrize("settings", [{"size_px": 3}, {"enlarge": 0}, {"fs": 0}, {"fs": float("nan")}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        Preprocessing(**settings)


def face(skin=(200, 150, 120), background=(20, 60, 160)) -> np.ndarray:
    y, x = (np.mgrid[0:36, 0:36] + 0.5) / 36 - 0.5
    crop = np.empty((36, 36, 3), np.uint8)
    crop[:] = background
    crop[(x / 0.33) ** 2 + (y / 0.42) ** 2 <= 1] = skin
    return crop


@pytest.mark.parametrize("skin", [(232, 196, 178), (200, 150, 120), (84, 54, 42), (21, 14, 10)])
def test_the_mean_is_that_of_the_skin_whatever_is_around(skin):
    assert np.abs(skin_mean(face(skin)) - skin).max() < 0.01 * max(skin)


@pytest.mark.parametrize("side", [4, 5, 24, 36])
def test_crops_together_are_as_each_alone(side):
    """Nothing of a neighbour in the batch reaches a crop: they are black and white, and in turns."""
    crops = np.random.default_rng(0).integers(60, 200, (9, side, side, 3), dtype=np.uint8)
    crops[::2] = np.where(np.arange(5)[:, None, None, None] % 2, 0, 255)
    assert np.array_equal(skin_mean(crops), [skin_mean(crop) for crop in crops])
    assert np.array_equal(skin_weights(crops[None]), [[skin_weights(crop) for crop in crops]])


def test_hair_within_the_ellipse_hardly_counts():
    crop = face()
    crop[6:14] = (30, 32, 36)
    whole_ellipse = np.average(
        crop, axis=(0, 1), weights=np.broadcast_to((skin_weights(face()) > 0)[..., None], crop.shape)
    )
    assert np.abs(skin_mean(crop) - (200, 150, 120)).max() < 0.25 * np.abs(whole_ellipse - (200, 150, 120)).max()


def test_a_grey_face_is_averaged_over_the_whole_ellipse():
    weights = skin_weights(np.full((36, 36, 3), 90, np.uint8))
    assert len(np.unique(weights)) == 2
    assert 0.15 < (weights > 0).mean() < 0.35


def test_noise_does_not_make_pixels_hop_in_and_out():
    """A rule that is yes or no shakes the mean here 16 times as much as the noise itself does, this one 1.9 times."""
    rng = np.random.default_rng(0)
    is_lit = (np.add(*np.indices((36, 36)) // 6) % 2) == 0
    crop = np.where(is_lit[..., None], (190, 140, 120), (68, 60, 58))  # the shade lies at the edge of the rule
    frames = np.clip(crop + rng.normal(0, 2, (200, 36, 36, 3)), 0, 255).round().astype(np.uint8)
    weights = skin_weights(frames[0])
    expected = 2 * np.sqrt((weights**2).sum()) / weights.sum()  # of a mean with fixed weights
    assert np.std([skin_mean(frame) for frame in frames], axis=0).max() < 3 * expected


def ramp(times_s) -> list[tuple[np.ndarray, float]]:
    """Frames whose grey level is 100 t: what is interpolated between them is known."""
    return [(np.full((36, 36, 3), round(100 * t), np.uint8), t) for t in times_s]


@pytest.mark.parametrize("fps", [12.5, 24, 25, 29.97, 30, 50, 60])
def test_any_frame_rate_comes_onto_the_grid_at_the_right_time(fps):
    times = np.arange(round(2.4 * fps)) / fps
    film = prepare(ramp(np.round(times, 2)), Preprocessing(size_px=8), boxes_xywh=np.tile(BOX, (len(times), 1)))
    grid = film.start_s + np.arange(len(film.traces)) / film.fs
    assert film.has_face.all()
    assert times[-1] - 1 / film.fs < grid[-1] <= times[-1] + 0.02
    assert np.abs(film.traces - 100 * grid[:, None]).max() < 0.1  # frames within 2 % of a step are taken as they are
    assert np.abs(film.frames[..., 0].mean(axis=(1, 2)) - 100 * grid).max() < 0.51


def test_frames_that_lie_on_the_grid_are_not_touched():
    images = [noise(seed=k) for k in range(20)]
    times = np.round(7 + np.arange(20) / 30, 3)  # as a container in milliseconds has them
    settings = Preprocessing(size_px=8)
    film = prepare(zip(images, times, strict=True), settings, boxes_xywh=np.tile(BOX, (20, 1)))
    assert np.array_equal(film.frames, [settings.crop(image, BOX) for image in images])


def test_dropped_frames_are_bridged_and_a_long_gap_is_not():
    times = np.concatenate([np.arange(10), [16], np.arange(40, 50)]) / 30
    film = prepare(ramp(times), Preprocessing(size_px=8), boxes_xywh=np.tile(BOX, (len(times), 1)))
    assert MAX_GAP_S < 23 / 30
    assert film.has_face[:17].all()
    assert not film.has_face[17:40].any()
    assert film.has_face[40:].all()


def test_no_face_is_said_and_nothing_made_up():
    boxes = np.tile(BOX, (30, 1))
    boxes[10:15] = np.nan
    film = prepare([(noise(), k / 30) for k in range(30)], Preprocessing(size_px=8), boxes_xywh=boxes)
    assert np.array_equal(np.flatnonzero(~film.has_face), np.arange(10, 15))
    assert np.isnan(film.traces[10:15]).all()
    assert np.isfinite(film.traces[film.has_face]).all()
    assert not film.frames[10:15].any()
    assert np.array_equal(film.track, np.where(film.has_face, 0, -1))


def test_a_film_without_a_face_is_all_no_face():
    film = prepare([(noise(), k / 30) for k in range(5)], Preprocessing(), detector=Seen([]))
    assert not film.has_face.any()
    assert np.isnan(film.traces).all()


def test_a_doubled_frame_is_left_out():
    once = [(noise(seed=k), k / 30) for k in range(6)]
    twice = [frame for frame in once for _ in range(2)]
    boxes = np.tile(BOX, (12, 1))
    first, second = (prepare(film, Preprocessing(), boxes_xywh=boxes) for film in (once, twice))
    assert np.array_equal(first.frames, second.frames)


@pytest.mark.parametrize(
    ("times_s", "message"),
    [
        ([0, 0.1, 0.05], "time runs backwards, from 0.100000 s to 0.050000 s"),
        ([0, float("nan")], "a frame's time is nan"),
        ([0, 1000], "there is no frame from 0.000 s to 1000.000 s"),
        ([], "no frame"),
    ],
)
def test_times_that_cannot_be_are_refused(times_s, message):
    with pytest.raises(InputError, match=message):
        prepare([(noise(), t) for t in times_s], Preprocessing(), boxes_xywh=np.tile(BOX, (9, 1)))


def test_too_few_boxes_are_refused():
    with pytest.raises(InputError, match="there is a frame 2"):
        prepare([(noise(), k / 30) for k in range(3)], Preprocessing(), boxes_xywh=np.tile(BOX, (2, 1)))


def test_the_grid_remembers_one_frame():
    grid, crop = TimeGrid(30.0), np.zeros((8, 8, 3), np.uint8)
    counts = [len(grid.push(k / 15, crop, 0)) for k in range(100)]
    assert counts == [1] + [2] * 99


def test_a_trembling_box_stands_still_and_a_moving_one_is_followed():
    tracker, image = BoxTracker(), noise()
    rng = np.random.default_rng(0)
    boxes = [tracker.update(image, k / 30, BOX + rng.uniform(-0.2, 0.2, 4)).box_xywh for k in range(30)]
    assert all(np.array_equal(box, boxes[0]) for box in boxes)
    moved = shifted(6)
    path = [tracker.update(image, 1 + k / 30, moved).box_xywh[0] for k in range(30)]
    assert (np.diff(path) >= 0).all()
    assert path[0] < 6
    assert abs(path[-1] - moved[0]) <= 0.02 * 24


def test_a_box_elsewhere_is_another_face():
    tracker, image = BoxTracker(), noise()
    assert tracker.update(image, 0.0, BOX).track == 0
    assert tracker.update(image, 0.1, shifted(10)).track == 0
    jumped = tracker.update(image, 0.2, shifted(60))
    assert jumped.track == 1
    assert np.array_equal(jumped.box_xywh, shifted(60))


@pytest.mark.parametrize(("away_s", "track"), [(0.9, 0), (1.2, 1)])
def test_a_face_that_is_away_for_a_second_is_a_new_one(away_s, track):
    tracker, image = BoxTracker(), noise()
    tracker.update(image, 0.0, BOX)
    assert tracker.update(image, 0.5, [np.nan] * 4).box_xywh is None
    assert tracker.update(image, away_s, BOX).track == track


def test_the_followed_face_is_kept_when_a_larger_one_comes():
    left, right = [4.0, 4, 24, 24], [60.0, 4, 36, 36]
    tracker = BoxTracker(Seen([left], [left, right], [right, left]), detect_every=1)
    tracked = [tracker.update(noise(), k / 30) for k in range(3)]
    assert [one.track for one in tracked] == [0, 0, 0]
    assert [one.faces for one in tracked] == [1, 2, 2]
    assert np.allclose(tracked[-1].box_xywh, left)


def test_the_largest_of_two_faces_is_taken():
    tracker = BoxTracker(Seen([[4, 4, 10, 10], [60, 4, 36, 36]]))
    assert tracker.update(noise(), 0.0).box_xywh[0] == 60


def test_every_fifth_frame_is_searched_and_every_one_after_a_miss():
    detector = Seen([BOX.tolist()])
    tracker = BoxTracker(detector)
    for k in range(20):
        tracker.update(noise(), k / 30)
    assert detector.calls == 4
    missing = Seen([BOX.tolist()], [])
    tracker = BoxTracker(missing)
    found = [tracker.update(noise(), k / 30).box_xywh is not None for k in range(90)]
    assert found == [True] * 5 + [False] * 85
    assert missing.calls == 1 + 30 + 11  # every frame to the end of the second (4/30 + 1 s), then every fifth
