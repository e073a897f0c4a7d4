"""The head's geometry, against points projected the other way round."""

from __future__ import annotations

import numpy as np
import pytest

from robustvision.rppg.synthetic.head import Place, View, cast, face_boxes, rotations
from robustvision.rppg.synthetic.motion import Motion

AXES = np.array([0.72, 1.0, 0.85])


def still(count: int = 1, **changes) -> Motion:
    facts = {"shift": np.zeros((count, 2)), "angles_rad": np.zeros((count, 3))}
    return Motion(**{**facts, "jaw": np.zeros(count), "lids": np.zeros(count), **changes})


def grid(side: int) -> tuple[np.ndarray, np.ndarray, float]:
    axis = ((np.arange(side) + 0.5) / side * 3 - 1.5).astype(np.float32)
    return axis[None, None, :], axis[None, :, None], 3 / side


def test_rotations_are_rotations_and_point_where_they_say():
    turns = rotations(np.array([[0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.3], [0.2, -0.4, 0.1]]))
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(turns), 1)
    nose = np.array([0, 0, 1.0])
    assert (turns[0] @ nose)[0] > 0.29  # yaw: to the right
    assert (turns[1] @ nose)[1] > 0.29  # pitch: down
    assert (turns[2] @ np.array([1.0, 0, 0]))[1] > 0.29  # roll: clockwise, with y down


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.5, -0.2, 0.1), (-0.7, 0.3, -0.3)])
def test_a_hit_lies_on_the_ellipsoid_and_projects_to_its_pixel(angles):
    x, y, pixel = grid(61)
    rotation = rotations(np.array([angles], float))
    seen = cast(x, y, rotation, AXES, pixel)
    inside = seen.coverage[0] == 1
    s, t = seen.s[0][inside].astype(float), seen.t[0][inside].astype(float)
    direction = np.stack([2 * s, 2 * t, 1 - s**2 - t**2], -1) / (1 + s**2 + t**2)[:, None]
    point = (direction * AXES) @ rotation[0].T
    columns, rows = np.broadcast_to(x[0], inside.shape)[inside], np.broadcast_to(y[0], inside.shape)[inside]
    assert inside.sum() > 500
    assert np.abs(point[:, 0] - columns).max() < 2e-3
    assert np.abs(point[:, 1] - rows).max() < 2e-3
    assert (point[:, 2] > -0.2).all()  # the side towards the camera


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2])
def test_coverage_adds_up_to_the_silhouette(yaw):
    x, y, pixel = grid(120)
    seen = cast(x, y, rotations(np.array([[yaw, 0.0, 0.0]])), AXES, pixel)
    half_width = AXES[0] if yaw == 0 else AXES[2]
    assert seen.coverage.sum() * pixel**2 == pytest.approx(np.pi * half_width * AXES[1], rel=0.01)


def test_the_box_goes_with_the_head():
    place = Place((0.5, 0.5), 0.25)
    rest = face_boxes(place, still(), AXES)[0]
    moved = face_boxes(place, still(shift=np.array([[0.2, -0.1]])), AXES)[0]
    assert np.allclose(moved - rest, [0.05, -0.025, 0, 0])
    turned = face_boxes(place, still(angles_rad=np.array([[0.5, 0, 0]])), AXES)[0]
    assert turned[0] + turned[2] / 2 > rest[0] + rest[2] / 2 + 0.02


def test_a_view_of_a_part_shows_the_pixels_of_the_whole():
    whole = View.whole(1, 64)
    part = View(*(np.array([value]) for value in (0.25, 0.5, 0.5, 0.25)), size_px=16)
    x, y = part.axes(slice(0, 1))
    all_x, all_y = whole.axes(slice(0, 1))
    assert np.allclose(x[0, 0], all_x[0, 0, 16:48].reshape(16, 2).mean(axis=1))
    assert np.allclose(y[0, :, 0], all_y[0, 32:48, 0])
