"""Pictures that are in two parts of a data set, also turned, flipped, or compressed anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.buildings.data.tile import Tile, UInt8
from robustvision.core.runtime.opencv import cv2

SIMILAR = 0.98
"""Correlation of two thumbnails from which they count as one picture."""
THUMBNAIL_PX = 16
FLAT = 3.0
"""Standard deviation of a thumbnail in grey levels; below it (sea, no data) all pictures look alike."""
_CHUNK = 2048

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Duplicate:
    """Two tiles that show the same.

    Attributes:
        first: Name of the one.
        second: Name of the other.
        similarity: Correlation of their thumbnails; 1 for the same pixels.
        exact: Whether all pixels are the same.
    """

    first: str
    second: str
    similarity: float
    exact: bool


@dataclass(frozen=True, eq=False)
class Signature:
    """What is kept of a tile to find its duplicates.

    Attributes:
        name: The tile's.
        digest: Of its pixels.
        thumbnail: [16, 16] float32, mean 0 and length 1; None where the picture is flat.
    """

    name: str
    digest: bytes
    thumbnail: Floats | None


def signature(tile: Tile) -> Signature:
    """Return the signature of a tile."""
    digest = hashlib.sha256(repr(tile.image.shape).encode() + np.ascontiguousarray(tile.image).tobytes()).digest()
    return Signature(tile.name, digest, _thumbnail(tile.image))


def find_duplicates(
    first: Iterable[Tile | Signature], second: Iterable[Tile | Signature], *, similar: float = SIMILAR
) -> list[Duplicate]:
    """Find tiles of one part that are in another as well, in any of the eight turns and flips.

    Args:
        first: Tiles of a part, or their signatures.
        second: Tiles of another.
        similar: Correlation of two thumbnails from which they count as one picture.

    Returns:
        The best match of each tile of ``second`` that has one, in their order.
    """
    ours, theirs = ([one if isinstance(one, Signature) else signature(one) for one in part] for part in (first, second))
    exact = {one.digest: one.name for one in reversed(ours)}
    textured = [one for one in ours if one.thumbnail is not None]
    known = np.array([one.thumbnail for one in textured], np.float32).reshape(len(textured), THUMBNAIL_PX**2)
    found = {}
    rest = []
    for place, one in enumerate(theirs):
        if one.digest in exact:
            found[place] = Duplicate(exact[one.digest], one.name, 1.0, exact=True)
        elif one.thumbnail is not None and textured:
            rest.append(place)
    for start in range(0, len(rest), _CHUNK):
        places = rest[start : start + _CHUNK]
        best, where = _best_match(known, np.array([theirs[place].thumbnail for place in places]))
        for place, value, match in zip(places, best.tolist(), where.tolist(), strict=True):
            if value >= similar:
                found[place] = Duplicate(textured[match].name, theirs[place].name, min(value, 1.0), exact=False)
    return [found[place] for place in sorted(found)]


def _thumbnail(image: UInt8) -> Floats | None:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    if small.std() < FLAT:
        return None
    small -= small.mean()
    return np.asarray(small / np.linalg.norm(small), np.float32)


def _best_match(known: Floats, thumbnails: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Highest correlation over known thumbnails and over turns, and which known one it is."""
    best = np.full(len(thumbnails), -np.inf, np.float32)
    where = np.zeros(len(thumbnails), np.int64)
    for turn in range(8):
        turned = np.rot90(thumbnails, turn % 4, axes=(1, 2))
        vectors = (turned[:, :, ::-1] if turn >= 4 else turned).reshape(len(thumbnails), -1)
        for start in range(0, len(known), _CHUNK):
            values = vectors @ known[start : start + _CHUNK].T
            place = values.argmax(axis=1)
            value = values[np.arange(len(values)), place]
            better = value > best
            best[better], where[better] = value[better], start + place[better]
    return best, where
