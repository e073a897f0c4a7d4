"""The head as a surface: an ellipsoid whose radius is raised and lowered by a map, drawn on one chart.

Head frame: x to image right, y down, z to the camera; the unit is half the head's height. A surface point has the
direction n = (x / a, y / b, z / c) / r on the unit sphere and the radius r = 1 + relief(s, t). The chart is the
stereographic projection s = n_x / (1 + n_z), t = n_y / (1 + n_z): it keeps angles, needs no trigonometry, and covers
the front (|s, t| < 1) and some of the sides. Chart maps are square images over [-CHART_HALF, CHART_HALF].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.face.synthetic.identity import Identity, Traits

Array = npt.NDArray[np.float32]

CHART_HALF = 1.25
RELIEF_PX = 160
"""Side of the relief map in pixels."""

_GRID = ((np.arange(RELIEF_PX) + 0.5) / RELIEF_PX * 2 - 1) * CHART_HALF


@dataclass(frozen=True, eq=False)
class Hit:
    """Where the rays of the pixels meet the head.

    Attributes:
        s, t: [H, W] float32, chart coordinates.
        depth: [H, W] float32, towards the camera, in head units.
        coverage: [H, W] float32 in 0..1, share of the pixel that the head covers.
    """

    s: Array
    t: Array
    depth: Array
    coverage: Array


def relief(traits: Traits) -> Array:
    """Return how far the surface lies above the ellipsoid.

    Args:
        traits: Whose head.

    Returns:
        [RELIEF_PX, RELIEF_PX] float32 chart map, relative to the ellipsoid's radius.
    """

    def bump(height: float, s: float, t: float, width_s: float, width_t: float) -> npt.NDArray[np.float64]:
        return np.outer(height * np.exp(-(((_GRID - t) / width_t) ** 2)), np.exp(-(((_GRID - s) / width_s) ** 2)))

    def pair(height: float, s: float, t: float, width_s: float, width_t: float) -> npt.NDArray[np.float64]:
        return bump(height, s, t, width_s, width_t) + bump(height, -s, t, width_s, width_t)

    eye_s, eye_t, nose_t = traits.eye_spacing_s, traits.eye_height_t, traits.nose_tip_t
    bridge_t = (eye_t + nose_t) / 2
    total = bump(traits.nose_length, 0, nose_t - 0.01, traits.nose_width_s, 0.055)
    total += bump(traits.nose_bridge, 0, bridge_t, traits.nose_width_s * 0.75, 0.10)
    total += bump(traits.nose_bump, 0, bridge_t, 0.03, 0.04)
    total += pair(0.055, traits.nostril_width_s, nose_t + 0.015, 0.032, 0.032)
    total += pair(-traits.eye_depth, eye_s, eye_t, 0.12, 0.07)
    total += pair(0.022, eye_s, eye_t, 0.07, 0.04)  # the eyeball under the lids
    total += bump(traits.brow_ridge, 0, eye_t - traits.brow_gap_t, 0.36, 0.06)
    total += pair(traits.cheekbone, 0.36, nose_t - 0.04, 0.14, 0.10)
    total -= pair(traits.cheek_hollow, 0.36, traits.mouth_t, 0.13, 0.12)
    total += bump(0.035, 0, traits.mouth_t, traits.mouth_width_s, 0.07)
    total -= bump(0.02, 0, traits.mouth_t + 0.10, 0.13, 0.03)
    total += bump(0.06 + traits.chin_length, 0, 0.66, traits.chin_width, 0.16)
    total += pair(traits.jaw_width + 0.02, 0.60, 0.48, 0.22, 0.24)
    total += pair(0.05 + 0.6 * traits.hair_volume, 0.66, -0.58, 0.36, 0.36)  # a skull is no egg
    total += bump(0.6 * traits.hair_volume, 0, -0.85, 0.5, 0.35)
    return total.astype(np.float32)


def sample_map(chart_map: npt.NDArray, s: Array, t: Array) -> npt.NDArray:
    """Read a chart map at chart coordinates, bilinearly."""
    scale = chart_map.shape[0] / (2 * CHART_HALF)
    offset = chart_map.shape[0] / 2 - 0.5
    return cv2.remap(
        chart_map, s * scale + offset, t * scale + offset, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


class Head:
    """One person's head, without colour.

    Args:
        identity: Whose head.
    """

    def __init__(self, identity: Identity) -> None:
        traits = identity.traits
        self.axes = np.array([traits.head_width, 1.0, traits.head_depth])
        self.relief = relief(traits)

    def points(self, s: npt.ArrayLike, t: npt.ArrayLike, lift: float = 0.0) -> npt.NDArray[np.float64]:
        """Return points of the surface.

        Args:
            s: [N], chart coordinates across.
            t: [N], chart coordinates down.
            lift: How far above the surface, relative to the radius.

        Returns:
            [N, 3] float64 in the head frame.
        """
        s, t = np.atleast_1d(np.asarray(s, np.float32)), np.atleast_1d(np.asarray(t, np.float32))
        radius = 1 + lift + sample_map(self.relief, s[None], t[None])[0]
        square = s * s + t * t
        direction = np.stack([2 * s, 2 * t, 1 - square]) / (1 + square)
        return (radius * direction).T * self.axes

    def cast(self, u: Array, v: Array, rotation: npt.NDArray[np.float64], pixels_per_unit: float) -> Hit:
        """Find where parallel rays meet the head.

        With the radius known, a ray meets the ellipsoid in closed form; the radius is then read again where it met.

        Args:
            u: [H, W] float32, head units to the right in the camera's plane, around the head's centre.
            v: [H, W] float32, head units down.
            rotation: [3, 3], head frame to camera frame.
            pixels_per_unit: For the soft edge.

        Returns:
            The hits; outside the head they are those of the nearest point, with coverage 0.
        """
        q0, q1, q2 = rotation / self.axes
        f = np.float32
        a = float(q2 @ q2)
        slope = u * f(q0 @ q2) + v * f(q1 @ q2)
        closest = u * u * f(q0 @ q0) + u * v * f(2 * (q0 @ q1)) + v * v * f(q1 @ q1) - slope * slope * f(1 / a)
        middle = slope * f(-1 / a)
        nx0, ny0, nz0 = (u * f(q0[i]) + v * f(q1[i]) for i in range(3))
        radius: Array = np.ones_like(u)
        for _ in range(4):
            depth = middle + np.sqrt(np.maximum(radius * radius - closest, 0)) * f(1 / np.sqrt(a))
            scale = 1 / np.maximum(radius + nz0 + depth * f(q2[2]), f(0.25))
            s = (nx0 + depth * f(q2[0])) * scale
            t = (ny0 + depth * f(q2[1])) * scale
            radius = sample_map(self.relief, s, t) + f(1)
        edge_px = (radius - np.sqrt(closest)) * f(pixels_per_unit * self.axes[:2].mean())
        return Hit(s, t, depth, np.clip(edge_px + f(0.5), 0, 1))
