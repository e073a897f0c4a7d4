"""Films and trees: written, and read back by the readers of films and of real data sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.core.runtime import open_video
from robustvision.rppg.data import read_mmpd, read_pure, read_ubfc
from robustvision.rppg.synthetic import RECIPE_NAME, SyntheticPulse, synthesize, write_film

pytest.importorskip("av")
FILMS = SyntheticPulse(2, scenarios=("dark", "talk"), skin_types=(4,), seconds=2, size_px=64)


def pictures(recording) -> np.ndarray:
    return np.stack(list(recording.frames())).astype(np.float64)


@pytest.mark.parametrize(
    ("name", "codec", "quality", "loss"),
    [("a.mp4", "h264", 10, 3.0), ("a.mkv", "h264", 10, 3.0), ("a.avi", "mjpeg", 2, 3.0), ("b.avi", "raw", 0, 0.0)],
)
def test_a_film_has_the_frames_and_their_times(tmp_path, name, codec, quality, loss):
    recording = FILMS[0]
    with open_video(write_film(recording, tmp_path / name, codec=codec, quality=quality)) as film:
        read = [(frame.image, frame.timestamp_s) for frame in film]
    assert np.allclose([time for _, time in read], recording.timestamps_s, atol=2e-3)
    assert np.abs(np.stack([image for image, _ in read]) - pictures(recording)).mean() <= loss


def test_h264_loses_more_at_a_higher_rate_factor(tmp_path):
    sizes = [write_film(FILMS[0], tmp_path / f"{crf}.mp4", quality=crf).stat().st_size for crf in (10, 25, 40)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [("a.mp4", "av1", "choose h264, mjpeg or raw"), ("a.gif", "h264", "films are written as .mp4")],
)
def test_what_cannot_be_written_is_named(tmp_path, name, codec, message):
    with pytest.raises(InputError, match=message):
        write_film(FILMS[0], tmp_path / name, codec=codec)
    assert not list(tmp_path.iterdir())


def test_odd_sides_are_refused_and_leave_nothing(tmp_path):
    odd = SyntheticPulse(1, seconds=1, size_px=33)[0]
    with pytest.raises(InputError, match="needs even sides, the frames are 33x33"):
        write_film(odd, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


READERS = {"pure": read_pure, "ubfc": read_ubfc, "mmpd": read_mmpd}


@pytest.mark.parametrize("layout", READERS)
def test_a_tree_is_read_back_by_the_reader_of_the_real_one(tmp_path, layout):
    written = synthesize(tmp_path / "tree", FILMS, layout=layout, quiet=True)
    assert (written["recordings"], written["subjects"]) == (2, 2)
    recordings = READERS[layout](tmp_path / "tree")
    assert len(recordings) == len({recording.subject for recording in recordings}) == 2
    for read, drawn in zip(recordings, FILMS, strict=True):
        assert np.allclose(read.timestamps_s, drawn.timestamps_s, atol=1e-6)
        assert np.array_equal(pictures(read), pictures(drawn))  # all three keep every bit
        finite = np.isfinite(read.bvp)
        assert finite[:-1].all()
        assert np.corrcoef(read.bvp[finite], drawn.bvp[finite])[0, 1] > 0.999


def test_mmpd_states_the_conditions(tmp_path):
    synthesize(tmp_path / "tree", FILMS, layout="mmpd", quiet=True)
    dark, talk = (recording.conditions for recording in read_mmpd(tmp_path / "tree"))
    assert (dark["light"], dark["motion"], dark["skin_type"]) == ("LED-low", "Stationary", 4)
    assert (talk["light"], talk["motion"]) == ("LED-high", "Talking")


def test_pure_numbers_the_films_of_a_subject(tmp_path):
    films = SyntheticPulse(4, seconds=1, size_px=16, recordings_per_subject=2)
    synthesize(tmp_path / "tree", films, layout="pure", workers=1, quiet=True)
    assert [recording.name for recording in read_pure(tmp_path / "tree")] == ["01-01", "01-02", "02-01", "02-02"]


def test_a_tree_is_marked_and_replaced_and_nothing_else_is(tmp_path):
    films = SyntheticPulse(1, seconds=1, size_px=16)
    for seed in (1, 2):
        synthesize(tmp_path / "tree", SyntheticPulse(1, seconds=1, size_px=16, seed=seed), layout="mmpd", quiet=True)
    assert json.loads((tmp_path / "tree" / RECIPE_NAME).read_text())["seed"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="remove it, or name another folder"):
        synthesize(tmp_path / "mine", films, layout="mmpd", quiet=True)
    with pytest.raises(InputError, match="choose pure, ubfc, mmpd"):
        synthesize(tmp_path / "new", films, layout="cohface", quiet=True)
    with pytest.raises(InputError, match="one film a subject"):
        synthesize(tmp_path / "new", SyntheticPulse(2, recordings_per_subject=2), layout="ubfc", quiet=True)
    assert not (tmp_path / "new").exists()
