"""One picture of one person: the head in front of a scene, lit, then taken by a camera of some quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.runtime.opencv import cv2
from robustvision.face.alignment import similarity_transform
from robustvision.face.synthetic.camera import take_picture
from robustvision.face.synthetic.identity import Identity
from robustvision.face.synthetic.nuisance import Nuisance
from robustvision.face.synthetic.paint import base_chart, chart_colours, mouth_corners, paint_expression
from robustvision.face.synthetic.scenery import draw_background, draw_body, draw_glasses, draw_occluder
from robustvision.face.synthetic.surface import Head

CROP_SCALE = 62.0
"""Pixels for one head unit in a frontal 112 crop: the scale on which blur is given."""


@dataclass(frozen=True)
class Rendered:
    """A rendered picture.

    Attributes:
        image: [H, W, 3] uint8, RGB.
        landmarks: [5, 2] float64, x and y in pixels, in the order of ``alignment.LANDMARK_NAMES``.
    """

    image: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """How the head lies in the picture.

    Attributes:
        rotation: [3, 3], head frame to camera frame.
        to_pixels: [2, 3], camera plane in head units to pixels.
    """

    rotation: npt.NDArray[np.float64]
    to_pixels: npt.NDArray[np.float64]

    @property
    def scale(self) -> float:
        """Pixels for one head unit."""
        return math.hypot(*self.to_pixels[:, 0])

    def project(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Take points of the head frame, [N, 3], to pixels, [N, 2]."""
        return (points @ self.rotation.T)[:, :2] @ self.to_pixels[:, :2].T + self.to_pixels[:, 2]


def render_face(identity: Identity, nuisance: Nuisance, size: int = 112) -> Rendered:
    """Render an aligned crop at once, as if the picture had been aligned by imperfect landmarks.

    Args:
        identity: Who.
        nuisance: The circumstances; its ``jitter`` is the error of the alignment.
        size: Side of the crop in pixels, a multiple of 112 or 128.

    Returns:
        [size, size, 3] picture with its true landmarks.
    """
    rotation = _rotation(nuisance)
    points = _landmarks(identity, nuisance)
    plane = (points @ rotation.T)[:, :2]
    x, y, log_scale, angle = nuisance.jitter
    pixel = size / 112
    factor, cos, sin = math.exp(log_scale), math.cos(angle), math.sin(angle)
    turn = factor * np.array([[cos, -sin], [sin, cos]])
    centre = np.array([56.0, 72.0]) * pixel
    aligned = similarity_transform(plane, size)
    to_pixels = np.empty((2, 3))
    to_pixels[:, :2] = turn @ aligned[:, :2]
    to_pixels[:, 2] = turn @ (aligned[:, 2] - centre) + centre + pixel * np.array([x, y])
    return _render(identity, nuisance, points, View(rotation, to_pixels), size, size)


def render_scene(
    identity: Identity,
    nuisance: Nuisance,
    *,
    height: int = 240,
    width: int = 320,
    eye_distance_px: float = 45.0,
    roll_rad: float = 0.0,
    centre: tuple[float, float] | None = None,
) -> Rendered:
    """Render a photo with one person in it.

    Args:
        identity: Who.
        nuisance: The circumstances; its ``jitter`` is not used.
        height: Height in pixels.
        width: Width in pixels.
        eye_distance_px: Distance that the eyes would have in a frontal view, in pixels.
        roll_rad: In-plane rotation of the head in radians, clockwise.
        centre: Where the head's centre lies, x and y in pixels; the middle where None.

    Returns:
        [height, width, 3] picture with its landmarks.

    Raises:
        InputError: For an eye distance that is not positive.
    """
    if eye_distance_px <= 0:
        raise InputError(f"eye_distance_px is {eye_distance_px}; expected more than 0")
    x, y = centre or ((width - 1) / 2, (height - 1) / 2)
    eyes = _head(identity).points([-identity.traits.eye_spacing_s, identity.traits.eye_spacing_s], [0, 0])
    scale = eye_distance_px / (eyes[1, 0] - eyes[0, 0])
    cos, sin = scale * math.cos(roll_rad), scale * math.sin(roll_rad)
    view = View(_rotation(nuisance), np.array([[cos, -sin, x], [sin, cos, y]]))
    return _render(identity, nuisance, _landmarks(identity, nuisance), view, height, width)


@lru_cache(maxsize=64)
def _head(identity: Identity) -> Head:
    return Head(identity)


@lru_cache(maxsize=64)
def _base_chart(identity: Identity) -> npt.NDArray[np.uint8]:
    return base_chart(identity, _head(identity).relief)


def _rotation(nuisance: Nuisance) -> npt.NDArray[np.float64]:
    cos, sin = math.cos(nuisance.yaw_rad), math.sin(nuisance.yaw_rad)
    yaw = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    cos, sin = math.cos(nuisance.pitch_rad), math.sin(nuisance.pitch_rad)
    pitch = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return pitch @ yaw


def _landmarks(identity: Identity, nuisance: Nuisance) -> npt.NDArray[np.float64]:
    """The five points, [5, 3] in the head frame."""
    traits = identity.traits
    mouth_s, mouth_t = mouth_corners(identity, nuisance)
    s = np.r_[-traits.eye_spacing_s, traits.eye_spacing_s, 0, mouth_s]
    t = np.r_[traits.eye_height_t, traits.eye_height_t, traits.nose_tip_t, mouth_t]
    return _head(identity).points(s, t)


def _render(
    identity: Identity, nuisance: Nuisance, points: npt.NDArray[np.float64], view: View, height: int, width: int
) -> Rendered:
    rng = np.random.default_rng(nuisance.look_seed)
    head = _head(identity)
    chart = _base_chart(identity).copy()
    paint_expression(chart, identity, nuisance, rng)
    to_plane = cv2.invertAffineTransform(view.to_pixels).astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    u = to_plane[0, 0] * x + to_plane[0, 1] * y + to_plane[0, 2]
    v = to_plane[1, 0] * x + to_plane[1, 1] * y + to_plane[1, 2]
    hit = head.cast(u, v, view.rotation, view.scale)
    lit = chart_colours(chart, hit.s, hit.t)
    lit *= _shading(hit.depth, view.scale, nuisance)[..., None]

    picture = draw_background(rng, height, width)
    draw_body(picture, identity, nuisance, view.project, view.scale, rng)
    picture += hit.coverage[..., None] * (lit - picture)
    draw_glasses(picture, identity, nuisance, head, view.project, view.scale, rng)
    if nuisance.occluder:
        draw_occluder(picture, view.project(np.zeros((1, 3)))[0], view.scale, rng)
    return Rendered(take_picture(picture, nuisance, view.scale / CROP_SCALE, rng), view.project(points))


def _shading(depth: npt.NDArray[np.float32], scale: float, nuisance: Nuisance) -> npt.NDArray[np.float32]:
    """Lambert's law with ambient light and a soft highlight, from the slope of the depth; [H, W] factors."""
    slope_x = cv2.Sobel(depth, cv2.CV_32F, 1, 0, scale=scale / 8)
    slope_y = cv2.Sobel(depth, cv2.CV_32F, 0, 1, scale=scale / 8)
    norm = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    light = np.array(nuisance.light, np.float32)
    towards = np.maximum((light[2] - light[0] * slope_x - light[1] * slope_y) * norm, 0)
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    shine = np.maximum((half[2] - half[0] * slope_x - half[1] * slope_y) * norm, 0)
    shine *= shine
    shine *= shine
    shine *= shine
    ambient = np.float32(nuisance.ambient)
    return ambient + np.float32(1.15) * (1 - ambient) * towards + np.float32(0.18) * (1 - ambient) * shine * shine
