"""Everything in the picture that is not the head: background, neck and shoulders, glasses, things before the camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.face.synthetic.identity import Identity
from robustvision.face.synthetic.nuisance import Nuisance
from robustvision.face.synthetic.surface import Head

Canvas = npt.NDArray[np.float32]
Project = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

_SHIFT = 4


def _px(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.round(points * 2**_SHIFT).astype(np.int32)


def _fill(picture: Canvas, points: npt.NDArray[np.float64], colour: npt.ArrayLike) -> None:
    cv2.fillPoly(picture, [_px(points)], np.asarray(colour, float).tolist(), cv2.LINE_8, _SHIFT)


def draw_background(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """Return a scene out of focus: patches of colour, some with hard edges; [height, width, 3] float32 in 0..255."""
    level, spread, tint = rng.uniform(40, 210), rng.uniform(10, 60), rng.normal(0, 18, 3)
    grey, colour = rng.standard_normal((2, *rng.integers(2, 7, 2), 3), dtype=np.float32)
    coarse = level + spread * (grey[..., :1] + 0.4 * colour) + tint
    picture = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(-0.2, 1, 2) * (width, height)
        w, h = rng.uniform(0.1, 0.6, 2) * (width, height)
        corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        _fill(picture, corners, np.clip(level + spread * rng.standard_normal() + rng.normal(0, 30, 3), 0, 255))
    return np.clip(picture, 0, 255, out=picture)


def draw_body(
    picture: Canvas, identity: Identity, nuisance: Nuisance, project: Project, scale: float, rng: np.random.Generator
) -> None:
    """Draw what lies behind the face: long hair, ears, neck and clothes."""
    traits = identity.traits
    width = traits.head_width
    shade = nuisance.ambient + 0.75 * (1 - nuisance.ambient) * max(nuisance.light[2], 0.2)
    around = np.linspace(0, 2 * np.pi, 25)
    circle = np.stack([np.cos(around), np.sin(around), np.zeros(25)], axis=1)
    if traits.hair_length > 0:
        locks = circle * np.array([width * 1.14, 0.85 + 0.28 * traits.hair_length, 0])
        _fill(picture, project(locks + np.array([0, 0.15 * traits.hair_length, -0.25])), identity.hair * shade * 0.8)
    neck = np.array([[-0.42, 0.45, -0.2], [0.42, 0.45, -0.2], [0.46, 1.7, -0.25], [-0.46, 1.7, -0.25]])
    neck[:, 0] *= width / 0.72
    _fill(picture, project(neck), identity.skin * shade * 0.74)
    cloth = rng.uniform(15, 240, 3) * shade
    collar = rng.uniform(1.15, 1.35)
    dip = collar + rng.uniform(0, 0.35)
    right = [[0.5, collar, -0.1], [1.5, 1.75, -0.3], [1.8, 4, -0.3]]
    left = [[-1.8, 4, -0.3], [-1.5, 1.75, -0.3], [-0.5, collar, -0.1]]
    _fill(picture, project(np.array([[0, dip, 0.1], *right, *left])), cloth)
    for side in (-1, 1):
        ear = circle[:, [2, 1, 0]] * np.array([0, 0.19, 0.11]) + np.array([side * width * 0.99, 0.10, 0])
        ear[:, 0] += side * 0.06 * np.cos(around)
        if traits.hair_length < 0.8:
            _fill(picture, project(ear), identity.skin * shade * (0.92, 0.82, 0.80))


def draw_glasses(
    picture: Canvas,
    identity: Identity,
    nuisance: Nuisance,
    head: Head,
    project: Project,
    scale: float,
    rng: np.random.Generator,
) -> None:
    """Draw spectacles or sunglasses in the plane before the eyes, with their sides."""
    if not nuisance.worn & {"glasses", "sunglasses"}:
        return
    traits = identity.traits
    eyes = head.points([-traits.eye_spacing_s, traits.eye_spacing_s], [traits.eye_height_t] * 2)
    eyes[:, 2] = eyes[:, 2].max() + 0.10
    around = np.linspace(0, 2 * np.pi, 29)
    roundness = rng.uniform(0.5, 1.0)
    cos, sin = np.cos(around), np.sin(around)
    outline = np.stack([np.sign(cos) * abs(cos) ** roundness, np.sign(sin) * abs(sin) ** roundness, 0 * cos], axis=1)
    outline *= np.array([rng.uniform(0.19, 0.25), rng.uniform(0.13, 0.21), 0])
    frame = rng.uniform(0, 110, 3) if rng.random() < 0.8 else rng.uniform(90, 230, 3)
    thickness = max(1, round(scale * rng.uniform(0.015, 0.045)))
    for side, eye in zip((-1, 1), eyes, strict=True):
        lens = project(eye + outline + np.array([side * 0.02, 0.02, 0]))
        if "sunglasses" in nuisance.worn:
            _fill(picture, lens, rng.uniform(5, 50, 3))
        hinge = eye + np.array([side * 0.23, 0, 0])
        temple = project(np.array([hinge, [side * traits.head_width, -0.02, 0.1]]))
        cv2.polylines(picture, [_px(lens), _px(temple)], False, frame.tolist(), thickness, cv2.LINE_8, _SHIFT)
    inner, middle = np.array([0.20, 0, 0]), eyes.mean(0) + np.array([0, -0.03, 0.03])
    bridge = project(np.array([eyes[0] + inner, middle, eyes[1] - inner]))
    cv2.polylines(picture, [_px(bridge)], False, frame.tolist(), thickness, cv2.LINE_8, _SHIFT)


def draw_occluder(picture: Canvas, centre: npt.NDArray[np.float64], scale: float, rng: np.random.Generator) -> None:
    """Draw a bar or an oval before the face, as a hand, a microphone or a shoulder of somebody else would be."""
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.95) * scale
    middle = centre + away * np.array([np.cos(angle), np.sin(angle)])
    long, wide = rng.uniform(0.5, 1.6) * scale, rng.uniform(0.14, 0.42) * scale
    turn = rng.uniform(0, np.pi)
    axis, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    if rng.random() < 0.5:
        shape = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    else:
        around = np.linspace(0, 2 * np.pi, 25)
        shape = np.stack([np.cos(around), np.sin(around)], axis=1)
    _fill(picture, middle + shape[:, :1] * long * axis + shape[:, 1:] * wide * across, rng.uniform(10, 240, 3))
