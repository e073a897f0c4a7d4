"""The splits of the literature: shares of the subjects in the order of their numbers, so that none is in two parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robustvision.core.errors import InputError
from robustvision.rppg.data.recording import Recording

Part = Literal["train", "validation", "test"]
Shares = tuple[float, float]

_ROUNDING = 1e-9  # 0.7 * 10 may come out below 7


@dataclass(frozen=True)
class Split:
    """Which share of the subjects each part takes: from (included) and to (left out), both 0 to 1.

    Attributes:
        train, validation, test: The shares; None where the split has no such part.
    """

    train: Shares | None = None
    validation: Shares | None = None
    test: Shares | None = None


SPLITS = {
    "mmpd_intra": Split((0, 0.7), (0.7, 0.8), (0.8, 1)),
    "pure_intra": Split((0, 0.6), (0.6, 1), (0.6, 1)),
    "ubfc_intra": Split((0, 0.72), (0.72, 1), (0.72, 1)),
    "pure_validated": Split((0, 0.5), (0.5, 0.6), (0.6, 1)),
    "ubfc_validated": Split((0, 0.6), (0.6, 0.72), (0.72, 1)),
    "cross_source": Split((0, 0.8), (0.8, 1), None),
    "cross_target": Split(None, None, (0, 1)),
}
"""Splits by name. "pure_intra" and "ubfc_intra" are published with the same subjects for validation and test (and the
last epoch taken); "pure_validated" and "ubfc_validated", this project's own, keep the test and take the validation from
the training subjects."""


def split_recordings(
    recordings: Sequence[Recording], split: str, part: Part, *, published: bool = False
) -> list[Recording]:
    """Return one part of a split.

    Args:
        recordings: All recordings of a data set.
        split: A name in ``SPLITS``.
        part: "train", "validation" or "test".
        published: Whether a validation on the test subjects is wanted, to repeat a published figure. Whoever chooses an
            epoch by it reports a test result that is too good.

    Returns:
        Its recordings, sorted by subject.

    Raises:
        InputError: No such split or part, the part has no subject, or validation is test and ``published`` is False.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not known; choose {', '.join(SPLITS)}")
    parts = SPLITS[split]
    if part not in ("train", "validation", "test"):
        raise InputError(f"part {part!r} is not known; choose train, validation or test")
    shares: Shares | None = getattr(parts, part)
    if shares is None:
        has = ", ".join(name for name in ("train", "validation", "test") if getattr(parts, name))
        raise InputError(f"split {split!r} has no {part}, only {has}")
    if part == "validation" and shares == parts.test and not published:
        raise InputError(
            f"the validation of {split!r} is its test: use {split.replace('intra', 'validated')!r}, or pass "
            "published=True to repeat published figures (and take the last epoch, not the best)"
        )
    return take_subjects(recordings, *shares)


def take_subjects(recordings: Sequence[Recording], begin: float, end: float) -> list[Recording]:
    """Return the recordings of a share of the subjects.

    Args:
        recordings: All recordings.
        begin, end: From and to, 0 to 1, as shares of the number of subjects, which are rounded down.

    Returns:
        The recordings, sorted by subject (2 before 10) and in their own order within one.

    Raises:
        InputError: The shares are out of order, or hold no subject.
    """
    if not 0 <= begin < end <= 1:
        raise InputError(f"subjects from {begin} to {end}: expected 0 <= begin < end <= 1")
    subjects = sorted({recording.subject for recording in recordings}, key=_natural)
    first, last = (int(share * len(subjects) + _ROUNDING) for share in (begin, end))
    chosen = subjects[first:last]
    if not chosen:
        raise InputError(f"{len(subjects)} subjects leave none from {begin:g} to {end:g} of them: give more recordings")
    return [recording for subject in chosen for recording in recordings if recording.subject == subject]


def _natural(subject: str) -> tuple[list[tuple[int, str]], str]:
    pieces = re.split(r"(\d+)", subject)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], subject
