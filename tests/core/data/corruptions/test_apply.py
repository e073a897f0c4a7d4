"""Images, batches and videos: seeds, sizes, grey, what stands still in a video, refusals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from robustvision.core.data import CORRUPTIONS, corrupt, corrupt_batch, corrupt_video
from robustvision.core.errors import InputError

DETERMINED = {
    *(
        "defocus_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
        "gaussian_blur",
        "saturate",
    )
}
RANDOM = [name for name in CORRUPTIONS if name not in DETERMINED]


@pytest.fixture
def small(photo):
    return photo[40:104, 60:140]  # 64x80, and not contiguous


def test_there_are_fifteen_and_four():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 19
    assert CORRUPTIONS[15:] == ("speckle_noise", "gaussian_blur", "spatter", "saturate")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides_and_the_input_stays(small, name):
    before = small.copy()
    first = corrupt(small, name, 3, seed=1, index=2)
    assert np.array_equal(first, corrupt(small, name, 3, seed=1, index=2))
    assert np.array_equal(small, before)
    for seed, index in ((2, 2), (1, 3), (2, 1)):
        assert np.array_equal(first, corrupt(small, name, 3, seed, index)) == (name in DETERMINED)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_batch_is_its_images_one_by_one(photo, name):
    images = np.stack([photo[i : i + 40, i : i + 56] for i in (0, 50, 100)])
    batch = corrupt_batch(images, name, 4, seed=3, index=7)
    for b, image in enumerate(images):
        assert np.array_equal(batch[b], corrupt(image, name, 4, seed=3, index=7 + b))
    if name in RANDOM:
        twins = corrupt_batch(np.stack([images[0]] * 2), name, 4, seed=3)
        assert not np.array_equal(twins[0], twins[1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_video_has_one_draw_for_all_frames(photo, name):
    frames = np.stack([photo[i : i + 48, i : i + 64] for i in (30, 33, 30)])
    video = corrupt_video(frames, name, 4, seed=3, index=7)
    assert np.array_equal(video[0], video[2])
    for t, frame in enumerate(frames):
        assert np.array_equal(video[t], corrupt(frame, name, 4, seed=3, index=7))


def test_what_is_added_stands_still_while_the_scene_changes():
    frames = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (90, 110)])
    noise = corrupt_video(frames, "gaussian_noise", 1, 0).astype(int)
    inside = (noise > 0).all(axis=0) & (noise < 255).all(axis=0)
    assert np.array_equal(noise[1][inside], noise[0][inside] + 20)
    # a Poisson count grows with its mean when the quantile stays, so no pixel gets darker
    shot = corrupt_video(frames, "shot_noise", 3, 0).astype(int)
    assert (shot[1] >= shot[0]).all()
    assert (shot[1] > shot[0]).any()
    hit = corrupt_video(frames, "impulse_noise", 3, 0)
    assert np.array_equal(hit[0] != 90, hit[1] != 110)
    for name in ("snow", "frost"):
        first, second = corrupt_video(frames, name, 2, 0).astype(float)
        residual = (second - first)[(first < 255) & (second < 255)]
        assert residual.std() < 1  # the layer itself cancels out


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (33, 70), (300, 40), (224, 224), (9, 200)])
def test_every_size_and_grey(name, size):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), size[::-1])
    for severity in (1, 5):
        colour = corrupt(image, name, severity, 0)
        assert colour.dtype == np.uint8
        assert colour.shape == image.shape
        grey = corrupt(image[..., 1], name, severity, 0)
        assert grey.dtype == np.uint8
        assert grey.shape == size
        assert np.array_equal(grey[..., None], corrupt(image[..., 1:2], name, severity, 0))


@pytest.mark.parametrize("name", sorted(DETERMINED - {"jpeg_compression", "saturate"}))
def test_grey_is_corrupted_as_a_channel_of_colour(small, name):
    grey = small[..., 0]
    colour = corrupt(np.dstack([grey] * 3), name, 3, 0)
    for channel in range(3):
        assert abs(colour[..., channel].astype(int) - corrupt(grey, name, 3, 0)).max() <= 1


BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur", "pixelate", "elastic_transform")


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("size", [32, 100, 224, 500])
def test_blur_leaves_an_even_image(name, size):
    even = np.full((size, size, 3), 77, np.uint8)
    assert abs(corrupt(even, name, 5, 0).astype(int) - 77).max() <= 1


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "gaussian_blur", "zoom_blur"])
@pytest.mark.parametrize("size", [56, 112, 448, 896])
def test_blur_looks_alike_at_every_size(photo, name, size):
    def at(image, size):
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if size < len(image) else cv2.INTER_LINEAR)

    smooth = cv2.GaussianBlur(photo, (0, 0), 2)  # no detail that a smaller image could not hold
    reference = at(corrupt(smooth, name, 5, 0), 56).astype(float)
    scaled = at(corrupt(at(smooth, size), name, 5, 0), 56).astype(float)
    unchanged = at(smooth, 56).astype(float)
    assert abs(scaled - unchanged).mean() == pytest.approx(abs(reference - unchanged).mean(), rel=0.2)
    if name != "glass_blur":  # whose shuffle is another one at every size
        assert abs(scaled - reference).mean() < 0.2 * abs(unchanged - reference).mean()


@pytest.mark.parametrize("name", ["defocus_blur", "gaussian_blur", "motion_blur", "glass_blur"])
def test_no_blur_vanishes_on_a_small_image(photo, name):
    tiny = cv2.resize(photo, (32, 32), interpolation=cv2.INTER_AREA)
    assert abs(corrupt(tiny, name, 1, 0).astype(float) - tiny).mean() > 2


def test_noise_does_not_depend_on_the_size():
    deviations = [corrupt(np.full((n, n), 128, np.uint8), "gaussian_noise", 1, 0).std() for n in (64, 224, 640)]
    np.testing.assert_allclose(deviations, 20.4, rtol=0.03)


def test_a_higher_severity_uses_the_same_numbers(photo):
    weak, strong = (corrupt(photo[:64, :64] // 4 + 96, "gaussian_noise", s, 0).astype(float) for s in (1, 2))
    scene = (photo[:64, :64] // 4 + 96).astype(float)
    assert np.corrcoef((weak - scene).ravel(), (strong - scene).ravel())[0, 1] > 0.99


GOOD = np.zeros((16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "name", "severity", "seed", "message"),
    [
        (GOOD, "fogg", 1, 0, "no corruption 'fogg'; give one of gaussian_noise"),
        (GOOD, "fog", 0, 0, "severity is 0; expected 1, 2"),
        (GOOD, "fog", 6, 0, "severity is 6"),
        (GOOD, "fog", 2.5, 0, "severity is 2.5"),
        (GOOD, "fog", 1, -1, "expected numbers from 0"),
        (GOOD / 255, "fog", 1, 0, "image is float64; expected uint8"),
        (GOOD.astype(np.int64), "fog", 1, 0, "image is int64"),
        (GOOD[None], "fog", 1, 0, r"\[1, 16, 16, 3\]; expected uint8 \[H, W, 3\]"),
        (np.zeros((16, 16, 4), np.uint8), "fog", 1, 0, r"\[16, 16, 4\]"),
        (GOOD[:7], "fog", 1, 0, "at least 8 pixels"),
        (GOOD[:, :0], "fog", 1, 0, "at least 8 pixels"),
    ],
)
def test_bad_input_is_refused(image, name, severity, seed, message):
    with pytest.raises(InputError, match=message):
        corrupt(image, name, severity, seed)


@pytest.mark.parametrize("function", [corrupt_batch, corrupt_video])
def test_batches_and_videos_are_checked_too(function):
    assert function(np.empty((0, 16, 16, 3), np.uint8), "fog", 1, 0).shape == (0, 16, 16, 3)
    assert function(np.zeros((2, 16, 16), np.uint8), "fog", 1, 0).shape == (2, 16, 16)
    with pytest.raises(InputError, match=r"\[16, 16, 3\]; expected"):  # one image, where several were expected
        function(GOOD, "fog", 1, 0)
    with pytest.raises(InputError, match="no corruption"):
        function(GOOD[None], "fogg", 1, 0)
