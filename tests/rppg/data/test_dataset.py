"""The data set of windows: the sample contract, labels that stay true under augmentation, no state."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from robustvision.core.errors import InputError
from robustvision.rppg.data import Augmentation, PulseDataset, heart_rate_bpm, synthetic_dataset
from robustvision.rppg.data.dataset import RATE_RANGE_BPM

STILL = Augmentation(flip=0, gain=0, offset=0, crop=0, speed=1, shift=False)


def test_the_sample_contract(make_clip):
    clip = make_clip(400)
    dataset = PulseDataset([clip, make_clip(200, name="b", seed=1)], 160)
    assert len(dataset) == 3
    assert dataset.windows.tolist() == [[0, 0], [0, 160], [1, 0]]
    sample = dataset[1]
    assert set(sample) == {"frames", "bvp", "heart_rate_bpm", "index"}
    assert sample["frames"].dtype == torch.uint8
    assert sample["frames"].is_contiguous()
    np.testing.assert_array_equal(sample["frames"].permute(1, 2, 3, 0), clip.frames[160:320])
    assert sample["bvp"].dtype == sample["heart_rate_bpm"].dtype == torch.float32
    window = clip.bvp[160:320].astype(np.float64)
    np.testing.assert_allclose(sample["bvp"], (window - window.mean()) / window.std(), atol=1e-5)
    assert sample["heart_rate_bpm"].item() == pytest.approx(72)
    assert sample["index"] == 1
    assert len(list(dataset)) == 3  # a loop ends


def test_batches_have_the_types_that_training_takes(make_clip):
    dataset = PulseDataset([make_clip(400)], 160)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch["frames"].shape == (2, 3, 160, 8, 8)
    assert batch["bvp"].shape == (2, 160)
    assert (batch["heart_rate_bpm"].shape, batch["heart_rate_bpm"].dtype) == ((2,), torch.float32)
    assert batch["index"].dtype == torch.int64
    assert torch.stack(pseudo_collate([dataset[0], dataset[1]])["heart_rate_bpm"]).shape == (2,)


def test_the_clip_stays_as_it_was(make_clip):
    clip = make_clip(160)
    before = clip.frames.copy()
    PulseDataset([clip], 160)[0]["frames"].zero_()
    PulseDataset([clip], 160, augmentation=STILL)[0]["frames"].zero_()
    np.testing.assert_array_equal(clip.frames, before)


class TestHeartRate:
    @pytest.mark.parametrize("bpm", [44.0, 72.0, 101.0, 175.0])
    def test_it_is_not_on_the_grid_of_7_bpm(self, make_clip, bpm):
        """160 frames at 30 Hz without padding: 72 becomes 70.3, 101 becomes 98.4."""
        with_beats, without = (PulseDataset([make_clip(160, bpm, beats=beats)], 160) for beats in (True, False))
        assert with_beats[0]["heart_rate_bpm"].item() == pytest.approx(bpm, abs=1e-3)
        assert without[0]["heart_rate_bpm"].item() == pytest.approx(bpm, abs=1.0)

    def test_drift_does_not_win(self, make_clip):
        clip = make_clip(160, 72.0, beats=False)
        drifting = replace(clip, bvp=clip.bvp + np.linspace(0, 40, 160, dtype=np.float32) ** 1.5)
        assert PulseDataset([drifting], 160)[0]["heart_rate_bpm"].item() == pytest.approx(72, abs=1.5)

    def test_beats_outside_the_window_do_not_count(self):
        bvp = np.sin(2 * np.pi * 1.0 * np.arange(160) / 30)
        beats = np.array([-9.0, -0.1, 0.5, 1.25, 2.0, 5.4, 30.0])  # the window ends at 5.3 s
        assert heart_rate_bpm(bvp, 30.0, beats) == pytest.approx(60 * 2 / 1.5)
        assert heart_rate_bpm(bvp, 30.0, beats[:3]) == pytest.approx(60, abs=1)  # one beat inside: by the spectrum
        assert np.isnan(heart_rate_bpm(np.ones(160), 30.0))

    def test_a_slow_clip_is_read_below_its_own_limit(self):
        assert heart_rate_bpm(np.sin(2 * np.pi * np.arange(60) / 5), 5.0) == pytest.approx(60, abs=1)  # 5 Hz: < 150 bpm


class TestWindowsLeftOut:
    def test_without_a_face(self, make_clip):
        clip = make_clip(480)
        seen = clip.has_face.copy()
        seen[200] = False
        dataset = PulseDataset([replace(clip, has_face=seen)], 160)
        assert dataset.windows.tolist() == [[0, 0], [0, 320]]
        assert dataset.metainfo["num_without_face"] == 1
        black = replace(
            clip, has_face=seen, frames=np.where(seen[:, None, None, None], clip.frames, 0).astype(np.uint8)
        )
        trained = PulseDataset([black], 160, augmentation=replace(STILL, shift=True, speed=1.25))
        darkest = [trained[epoch, 0]["frames"].amax((0, 2, 3)).min().item() for epoch in range(60)]
        assert min(darkest) > 100  # the black frame is in none of them, wherever they begin

    def test_with_a_flat_label(self, make_clip):
        clip = make_clip(320)
        bvp = clip.bvp.copy()
        bvp[:160] = 3
        dataset = PulseDataset([replace(clip, bvp=bvp)], 160)
        assert dataset.windows.tolist() == [[0, 160]]
        assert (dataset.num_flat, dataset.num_without_face) == (1, 0)

    def test_none_is_left(self, make_clip):
        clip = make_clip(320)
        with pytest.raises(InputError, match=r"1 clips gave 2, of which 2 lack a face and 0 have a flat label"):
            PulseDataset([replace(clip, has_face=np.zeros(320, bool))], 160)
        with pytest.raises(InputError, match="1 clips gave 0"):
            PulseDataset([make_clip(100)], 160)


class TestAugmentation:
    def test_it_depends_on_seed_epoch_and_index_alone(self, make_clip):
        clips = [make_clip(700)]

        def samples(dataset, epoch):
            return [dataset[epoch, index] for index in range(len(dataset))]

        def same(first, second):
            return all(
                torch.equal(a["frames"], b["frames"]) and torch.equal(a["bvp"], b["bvp"])
                for a, b in zip(first, second, strict=True)
            )

        dataset = PulseDataset(clips, 160, augmentation={}, seed=3)
        first, second = samples(dataset, 0), samples(dataset, 1)
        assert same(samples(dataset, 0), first)  # not changed by what was read before
        assert same(samples(pickle.loads(pickle.dumps(dataset)), 1), second)
        assert not same(first, second)
        assert not same(samples(PulseDataset(clips, 160, augmentation={}, seed=4), 0), first)
        assert torch.equal(dataset[2]["frames"], dataset[0, 2]["frames"])

    def test_none_of_it_is_none(self, make_clip):
        clip = make_clip(400)
        plain, still = PulseDataset([clip], 160), PulseDataset([clip], 160, augmentation=STILL)
        for index in range(2):
            assert torch.equal(plain[index]["frames"], still[5, index]["frames"])
            assert torch.equal(plain[index]["bvp"], still[5, index]["bvp"])

    def test_a_flip_is_of_the_whole_window(self, make_clip):
        clip = make_clip(160)
        frames = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)
        dataset = PulseDataset([clip], 160, augmentation=replace(STILL, flip=0.5))
        flipped = [torch.equal(dataset[epoch, 0]["frames"], frames.flip(3)) for epoch in range(40)]
        plain = [torch.equal(dataset[epoch, 0]["frames"], frames) for epoch in range(40)]
        assert all(a != b for a, b in zip(flipped, plain, strict=True))
        assert 8 <= sum(flipped) <= 32  # 6 in 100,000 fall outside

    def test_brightness_is_one_affine_map_a_window(self, make_clip):
        clip = make_clip(160)  # 60..190, so that nothing is cut off by 1.2 x 190 + 10
        dataset = PulseDataset([clip], 160, augmentation=replace(STILL, gain=0.2, offset=10))
        gains = []
        for epoch in range(12):
            got = dataset[epoch, 0]["frames"].numpy().transpose(1, 2, 3, 0).astype(float)
            gain, offset = np.polyfit(clip.frames.ravel().astype(float), got.ravel(), 1)
            assert np.abs(got - (gain * clip.frames + offset)).max() < 0.6  # rounding alone, the same for every frame
            assert 0.79 < gain < 1.21
            assert abs(offset) < 11
            gains.append(gain)
        assert np.ptp(gains) > 0.1

    def test_a_cut_keeps_its_place_through_the_window(self, make_clip):
        clip = make_clip(160, size_px=16)
        picture = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None, None] * 10, clip.frames.shape)
        clip = replace(clip, frames=np.ascontiguousarray(picture))
        dataset = PulseDataset([clip], 160, augmentation=replace(STILL, crop=0.3))
        spans = []
        for epoch in range(12):
            got = dataset[epoch, 0]["frames"].numpy()
            assert (got == got[:, :1]).all()  # all frames alike
            rows = got[0, 0, :, 0].astype(int)
            assert (np.diff(rows) >= 0).all()
            spans.append(np.ptp(rows))
        assert min(spans) >= 0.7 * 150 - 5
        assert min(spans) < 140

    def test_speed_changes_frames_wave_and_heart_rate_together(self, make_clip):
        """A frame shows the wave itself, so the label can be checked against the picture."""
        clip = make_clip(900, 72.0, size_px=4)
        shown = np.rint(125 + 40 * clip.bvp).astype(np.uint8)
        clip = replace(clip, frames=np.broadcast_to(shown[:, None, None, None], clip.frames.shape).copy())
        for beats in (clip.beats_s, None):
            dataset = PulseDataset(
                [replace(clip, beats_s=beats)], 160, augmentation=replace(STILL, speed=1.5, shift=True)
            )
            rates = []
            for epoch in range(30):
                sample = dataset[epoch, 0]
                picture = sample["frames"][0, :, 0, 0].double()
                assert np.corrcoef(picture, sample["bvp"])[0, 1] > 0.999
                by_picture = heart_rate_bpm(picture.numpy(), 30.0)
                assert sample["heart_rate_bpm"].item() == pytest.approx(by_picture, abs=2.5)
                rates.append(by_picture)
            assert min(rates) < 60
            assert max(rates) > 90

    @pytest.mark.parametrize("bpm", [42.0, 170.0])
    def test_the_heart_rate_stays_within_the_bins(self, make_clip, bpm):
        for beats in (True, False):
            dataset = PulseDataset([make_clip(900, bpm, beats=beats)], 160, augmentation=Augmentation(speed=1.6))
            rates = [dataset[epoch, index]["heart_rate_bpm"].item() for epoch in range(10) for index in range(5)]
            assert all(RATE_RANGE_BPM[0] <= rate <= RATE_RANGE_BPM[1] for rate in rates)
            assert np.ptp(rates) > 10  # it was changed, in the direction that is left

    def test_a_clip_as_long_as_the_window_cannot_be_sped_up(self, make_clip):
        dataset = PulseDataset([make_clip(160)], 160, augmentation=Augmentation(speed=2))
        rates = [dataset[epoch, 0]["heart_rate_bpm"].item() for epoch in range(20)]
        assert max(rates) == pytest.approx(72, abs=0.01)
        assert min(rates) < 60

    def test_impossible_values(self):
        for field, value in {"flip": 1.5, "gain": 1, "offset": -1, "crop": 0.95, "speed": 0.9}.items():
            with pytest.raises(InputError, match=f"{field} is"):
                Augmentation(**{field: value})


def test_fingerprint(make_clip):
    clips = [make_clip(400)]
    first = PulseDataset(clips, 160).fingerprint()
    assert PulseDataset([make_clip(400)], 160).fingerprint() == first
    other = clips[0].frames.copy()
    other[0, 0, 0, 0] ^= 1
    for changed in (
        PulseDataset([replace(clips[0], frames=other)], 160),
        PulseDataset([replace(clips[0], bvp=-clips[0].bvp)], 160),
        PulseDataset([replace(clips[0], beats_s=None)], 160),
        PulseDataset([replace(clips[0], has_face=np.arange(400) != 200)], 160),
        PulseDataset(clips, 120),
    ):
        assert changed.fingerprint() != first


def test_metainfo_is_plain(make_clip):
    info = PulseDataset([make_clip(400), make_clip(400, subject="2")], 160).metainfo
    assert {type(value) for value in info.values()} <= {int, float, str}
    assert (info["num_samples"], info["num_clips"], info["num_subjects"], info["size_px"]) == (4, 2, 2, 8)


def test_clips_that_differ(make_clip):
    for other in (make_clip(200, fs=25.0), make_clip(200, size_px=16)):
        with pytest.raises(InputError, match="prepare all clips alike"):
            PulseDataset([make_clip(200), other], 160)
    with pytest.raises(InputError, match="no clips"):
        PulseDataset([], 160)
    with pytest.raises(InputError, match="multiple of 4"):
        PulseDataset([make_clip(200)], 150)


def test_a_rendered_data_set():
    dataset = synthetic_dataset(2, scenarios=["still", "talk"], seconds=6, size_px=8, quiet=True, workers=1)
    again = synthetic_dataset(2, scenarios=["still", "talk"], seconds=6, size_px=8, quiet=True, workers=1)
    assert again.clips[0] is dataset.clips[0]  # rendered once a process
    assert dataset[0]["frames"].shape == (3, 160, 8, 8)
    assert [clip.conditions["scenario"] for clip in dataset.clips] == ["still", "talk"]
    stated = dataset.clips[0].conditions["heart_rate_bpm"]
    assert dataset[0]["heart_rate_bpm"].item() == pytest.approx(stated, abs=6)
