"""Splits: nobody in two parts, numbers and not text, and no validation on the test by mistake."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.core.errors import InputError
from robustvision.rppg.data import SPLITS, Recording, split_recordings, take_subjects


def recordings(subjects, each=2):
    return [
        Recording(f"{subject}-{take}", subject, np.arange(2.0), np.zeros(2, np.float32), lambda: iter(()), {})
        for take in range(each)
        for subject in subjects
    ]


UBFC = [str(number) for number in range(1, 50) if number not in (2, 6, 7, 19, 21, 28, 29)]  # 42, with gaps
DATA = {"mmpd": [str(n) for n in range(1, 34)], "pure": [f"{n:02d}" for n in range(1, 11)], "ubfc": UBFC, "cross": UBFC}
SIZES = {
    "mmpd_intra": (23, 3, 7),  # 33 subjects: .7 x 33 = 23.1, .8 x 33 = 26.4
    "pure_validated": (5, 1, 4),
    "ubfc_validated": (25, 5, 12),  # 42 subjects: 25.2, 30.24
    "pure_intra": (6, 4, 4),
    "ubfc_intra": (30, 12, 12),
    "cross_source": (33, 9, None),
    "cross_target": (None, None, 42),
}


@pytest.mark.parametrize("name", SPLITS)
def test_sizes_and_no_overlap(name):
    films = recordings(DATA[name.split("_")[0]])
    np.random.default_rng(0).shuffle(films)  # a directory listing has no order
    seen: list[str] = []
    for part, size in zip(("train", "validation", "test"), SIZES[name], strict=True):
        if size is None:
            with pytest.raises(InputError, match=f"'{name}' has no {part}"):
                split_recordings(films, name, part)
            continue
        chosen = split_recordings(films, name, part, published=True)
        subjects = {film.subject for film in chosen}
        assert (len(subjects), len(chosen)) == (size, 2 * size)
        if part != "validation" or SPLITS[name].validation != SPLITS[name].test:
            seen += subjects
    assert sorted(seen) == sorted(DATA[name.split("_")[0]])  # everybody once


@pytest.mark.parametrize("name", ["pure_intra", "ubfc_intra"])
def test_validation_on_the_test_is_refused_unless_asked_for(name):
    films = recordings(DATA[name.split("_")[0]])
    with pytest.raises(InputError, match=name.replace("intra", "validated")):
        split_recordings(films, name, "validation")
    published = split_recordings(films, name, "validation", published=True)
    assert published == split_recordings(films, name, "test")
    own = name.replace("intra", "validated")
    assert split_recordings(films, own, "test") == published  # the test stays the published one
    assert not {film.subject for film in split_recordings(films, own, "validation")} & {f.subject for f in published}


def test_subjects_are_sorted_by_number():
    assert [film.subject for film in take_subjects(recordings(["10", "9", "1", "2"], 1), 0.5, 1)] == ["9", "10"]
    assert [film.subject for film in take_subjects(recordings(["s10", "s9"], 1), 0, 0.5)] == ["s9"]


def test_a_share_that_rounding_spoils():
    films = recordings([str(number) for number in range(100)], 1)
    assert 0.29 * 100 < 29
    assert len(take_subjects(films, 0, 0.29)) == 29


def test_impossible_questions():
    films = recordings(["1", "2"])
    with pytest.raises(InputError, match="leave none"):
        split_recordings(films, "mmpd_intra", "validation")
    with pytest.raises(InputError, match="choose mmpd_intra"):
        split_recordings(films, "lgi", "train")
    with pytest.raises(InputError, match="choose train"):
        split_recordings(films, "mmpd_intra", "val")
    with pytest.raises(InputError, match="begin < end"):
        take_subjects(films, 0.5, 0.5)
