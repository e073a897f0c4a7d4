"""The head as an ellipsoid: where it is in each frame, and which of its points each pixel sees.

Places in the picture are shares of the frame's side, from its top left corner. The head's unit is half its height. Rays
are parallel. Everything is done for many frames at once, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.rppg.synthetic.motion import Motion

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_OUTLINE = np.array([(-0.56, 0.0), (0.56, 0.0), (0.0, -0.40), (0.0, 0.67), (-0.4, 0.45), (0.4, 0.45)])
"""Points of the chart that a face box touches: temples, forehead, chin, jaw."""


@dataclass(frozen=True, eq=False)
class View:
    """What the rendered pixels show: a rectangle of the frame, another one in each frame where it follows the face.

    Attributes:
        left, top, width, height: float64 [T], shares of the frame's side.
        size_px: Rendered pixels across and down.
    """

    left: Floats
    top: Floats
    width: Floats
    height: Floats
    size_px: int

    @classmethod
    def whole(cls, count: int, size_px: int) -> View:
        """The whole frame."""
        zeros, ones = np.zeros(count), np.ones(count)
        return cls(zeros, zeros, ones, ones, size_px)

    def axes(self, frames: slice) -> tuple[Array, Array]:
        """Return where the pixels' centres lie: float32 [B, 1, W] across and [B, H, 1] down."""
        centre = (np.arange(self.size_px) + 0.5) / self.size_px
        x = self.left[frames, None] + self.width[frames, None] * centre
        y = self.top[frames, None] + self.height[frames, None] * centre
        return x[:, None, :].astype(np.float32), y[:, :, None].astype(np.float32)

    @property
    def pixel(self) -> float:
        """Mean side of a pixel."""
        return float(np.sqrt(self.width.mean() * self.height.mean()) / self.size_px)


@dataclass(frozen=True, eq=False)
class Place:
    """Where the head is when it rests.

    Attributes:
        centre: [2], share of the frame's side.
        unit: Half the head's height, share of the frame's side.
    """

    centre: tuple[float, float]
    unit: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Place:
        """Draw a distance and a place near the middle of the frame."""
        return cls((rng.uniform(0.44, 0.56), rng.uniform(0.44, 0.50)), rng.uniform(0.24, 0.30))


@dataclass(frozen=True, eq=False)
class Seen:
    """What the pixels of B frames see of the head; all float32 [B, H, W].

    Attributes:
        s, t: Place on the chart of the face.
        down: n_y of the direction, from -1 at the top of the head to 1 at the chin.
        coverage: Share of the pixel that the head covers.
    """

    s: Array
    t: Array
    down: Array
    coverage: Array


def rotations(angles_rad: Floats) -> Floats:
    """Return [T, 3, 3] from head to camera, for [T, 3] yaw, pitch and roll."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles_rad).T, np.sin(angles_rad).T
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    yaw = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    pitch = np.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], -1).reshape(-1, 3, 3)
    roll = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return np.asarray(roll @ pitch @ yaw, np.float64)


def cast(x: Array, y: Array, rotation: Floats, axes: Floats, pixel: float) -> Seen:
    """Find where parallel rays meet the ellipsoid, in closed form.

    With M = diag(1 / axes) R^T, the ray (x, y, z) meets the surface where |M (x, y, z)| = 1.

    Args:
        x: float32 [B, 1, W], in head units from the head's centre.
        y: float32 [B, H, 1].
        rotation: [B, 3, 3] from head to camera.
        axes: [3] half axes.
        pixel: Side of a pixel in head units, for the soft edge.

    Returns:
        The hits; outside the head those of its nearest edge, with coverage 0.
    """
    across, down, deep = np.moveaxis((rotation / axes).astype(np.float32), 1, 0)[..., None, None]

    def dot(p: Array, q: Array) -> Array:
        return np.asarray((p * q).sum(axis=1), np.float32)

    inverse = 1 / dot(deep, deep)
    slope = x * (dot(across, deep) * inverse) + y * (dot(down, deep) * inverse)
    off = x * x * dot(across, across) + y * y * dot(down, down) - 1
    off = off + (x * (2 * dot(across, down))) * y
    inside = slope * slope - off * inverse
    edge = np.float32(2 * axes[2] ** 2 / axes[:2].mean() * pixel)  # how much `inside` changes over a pixel at the edge
    coverage = np.clip(inside * (1 / edge) + np.float32(0.5), 0, 1)
    z = np.sqrt(np.maximum(inside, 0)) - slope
    n_x, n_y, n_z = ((x * across[:, i] + y * down[:, i]) + z * deep[:, i] for i in range(3))
    scale = 1 / np.maximum(1 + n_z, np.float32(0.25))
    return Seen(n_x * scale, n_y * scale, n_y, coverage)


def face_boxes(place: Place, motion: Motion, axes: Floats) -> Floats:
    """Return the box of the face in each frame.

    Args:
        place: Where the head rests.
        motion: How it moves.
        axes: [3] half axes of the head.

    Returns:
        float64 [T, 4]: left, top, width, height, shares of the frame's side.
    """
    square = (_OUTLINE**2).sum(axis=1, keepdims=True)
    points = np.hstack([2 * _OUTLINE, 1 - square]) / (1 + square) * axes
    turned = np.einsum("tij,nj->tni", rotations(motion.angles_rad)[:, :2], points)
    low = turned.min(axis=1) + motion.shift
    high = turned.max(axis=1) + motion.shift
    return np.hstack([np.array(place.centre) + place.unit * low, place.unit * (high - low)])
