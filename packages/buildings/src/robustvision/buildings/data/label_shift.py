"""Whether labels lie beside what the image shows: outlines of labels against edges of images, at every shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from robustvision.buildings.data.tile import Tile
from robustvision.core.runtime.opencv import cv2

REACH_PX = 32
"""Shifts are looked for up to here, or a quarter of the tile's side."""
LARGEST_PX = 1024
"""Of a larger tile its middle is looked at."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelShift:
    """Where the outlines of a label would meet the edges of the image.

    Attributes:
        dx_px: By so much the label would have to go right.
        dy_px: Likewise down.
        score: How far the match there stands out from the other shifts, in their standard deviations.
        gain: By how much it is better than without a shift, as a share.
    """

    dx_px: int
    dy_px: int
    score: float
    gain: float

    @property
    def length_px(self) -> float:
        """Length of the shift."""
        return float(np.hypot(self.dx_px, self.dy_px))


def match_map(tile: Tile) -> Floats | None:
    """Correlate the outline of a label with the edges of its image, at every shift.

    Args:
        tile: A tile; maps of tiles that share a shift may be added up.

    Returns:
        float64 [2 R + 1, 2 R + 1] for R = 32 px; the middle is no shift, rows are shifts of the label downwards. None
        where the label has no outline or the tile is too small.
    """
    rows, columns = (slice((side - kept) // 2, (side + kept) // 2) for side, kept in _middle(tile.label.shape))
    label = np.ascontiguousarray(tile.label[rows, columns])
    height, width = label.shape
    if min(height, width) < 2 * REACH_PX:
        return None
    kernel = np.ones((3, 3), np.uint8)
    outline = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, kernel).astype(np.float64)
    grey = cv2.GaussianBlur(
        cv2.cvtColor(np.ascontiguousarray(tile.image[rows, columns]), cv2.COLOR_RGB2GRAY), (0, 0), 1.0
    )
    edges = np.hypot(cv2.Sobel(grey, cv2.CV_64F, 1, 0), cv2.Sobel(grey, cv2.CV_64F, 0, 1))
    if tile.valid is not None:
        inside = cv2.erode(tile.valid[rows, columns].astype(np.uint8), kernel, borderValue=0)
        edges, outline = edges * inside, outline * inside
    if not outline.any() or not edges.any():
        return None
    edges = np.minimum(edges, np.percentile(edges, 99))  # a few glints would decide alone
    shape = [scipy.fft.next_fast_len(side + REACH_PX, real=True) for side in (height, width)]
    product = scipy.fft.rfft2(edges - edges.mean(), shape) * np.conj(scipy.fft.rfft2(outline - outline.mean(), shape))
    correlation = np.roll(scipy.fft.irfft2(product, shape), (REACH_PX, REACH_PX), axis=(0, 1))
    found: Floats = correlation[: 2 * REACH_PX + 1, : 2 * REACH_PX + 1]
    return found / (np.linalg.norm(edges - edges.mean()) * np.linalg.norm(outline - outline.mean()))


def best_shift(total: Floats) -> LabelShift:
    """Return the shift at which labels match their images best.

    Args:
        total: The sum of ``match_map`` over tiles that share a shift.
    """
    row, column = np.unravel_index(int(total.argmax()), total.shape)
    middle = total.shape[0] // 2
    best, unmoved = float(total[row, column]), float(total[middle, middle])
    return LabelShift(
        dx_px=int(column) - middle,
        dy_px=int(row) - middle,
        score=(best - float(total.mean())) / max(float(total.std()), 1e-12),
        gain=1 - unmoved / best if best > 0 else 0.0,
    )


def _middle(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(side, min(side, LARGEST_PX)) for side in shape]
