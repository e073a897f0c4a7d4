"""The colours of a head on its chart: what stays (skin, hair, marks) and what moves with the expression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.face.synthetic.identity import Identity, Traits
from robustvision.face.synthetic.nuisance import Nuisance
from robustvision.face.synthetic.surface import CHART_HALF, Array, sample_map

Picture = npt.NDArray[np.uint8]

CHART_PX = 320
"""Side of the colour chart in pixels."""

_SCALE = CHART_PX / (2 * CHART_HALF)
_SHIFT = 4  # OpenCV draws at 1/16 px
_COARSE = 128
_BOX = np.array([-1, -1, 1, 1])


def _to_px(s: npt.ArrayLike, t: npt.ArrayLike) -> npt.NDArray[np.int32]:
    points = np.empty((np.size(s), 2))
    points[:, 0], points[:, 1] = s, t
    points *= _SCALE * 2**_SHIFT
    points += (CHART_HALF * _SCALE - 0.5) * 2**_SHIFT + 0.5  # the last half rounds
    return points.astype(np.int32)


def _fill(chart: Picture, s: npt.ArrayLike, t: npt.ArrayLike, colour: npt.ArrayLike) -> None:
    cv2.fillPoly(chart, [_to_px(s, t)], np.asarray(colour, float).tolist(), cv2.LINE_AA, _SHIFT)


def _stroke(chart: Picture, s: npt.ArrayLike, t: npt.ArrayLike, colour: npt.ArrayLike, px: int = 1) -> None:
    cv2.polylines(chart, [_to_px(s, t)], False, np.asarray(colour, float).tolist(), px, cv2.LINE_AA, _SHIFT)


def _disc(chart: Picture, s: float, t: float, radius: float, colour: npt.ArrayLike) -> None:
    x, y = (round(((place + CHART_HALF) * _SCALE - 0.5) * 2**_SHIFT) for place in (s, t))
    size = round(radius * _SCALE * 2**_SHIFT)
    cv2.circle(chart, (x, y), size, np.asarray(colour, float).tolist(), -1, cv2.LINE_AA, _SHIFT)


def _there_and_back(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([values, values[::-1]])


def _smoothstep(x: Array, low: float, high: float) -> Array:
    u = np.clip((x - low) / (high - low), 0, 1)
    return u * u * (3 - 2 * u)


def base_chart(identity: Identity, height: Array) -> Picture:
    """Paint what does not move: skin with its tones, grain and marks, beard, hair.

    Args:
        identity: Whose head.
        height: Its relief, a chart map; hollows are painted darker.

    Returns:
        [CHART_PX, CHART_PX, 3] uint8, RGB.
    """
    traits, rng = identity.traits, np.random.default_rng(identity.grain_seed)
    axis = (((np.arange(_COARSE) + 0.5) / _COARSE * 2 - 1) * CHART_HALF).astype(np.float32)
    s, t = axis[None], axis[:, None]
    skin = np.broadcast_to(identity.skin.astype(np.float32), (_COARSE, _COARSE, 3)).copy()
    cheeks = _glow(axis, 0.33, 0.22, 0.13, 0.10) + 0.6 * _glow(axis, 0, traits.nose_tip_t, 0.07, 0.05)
    skin *= 1 + max(traits.cheek_blush, 0) * cheeks[..., None] * np.array([0.04, -0.16, -0.13], np.float32)
    eyes = _glow(axis, traits.eye_spacing_s, traits.eye_height_t + 0.03, 0.11, 0.07)
    mottle = cv2.resize(_normal(rng, 20, 20), (_COARSE, _COARSE), interpolation=cv2.INTER_CUBIC)
    skin *= (1 - (0.08 + 0.18 * max(traits.eye_shadow, 0)) * eyes + 0.025 * mottle)[..., None]
    _blend(skin, _beard(traits, axis, rng), identity.hair * 0.9)
    strands = cv2.resize(_normal(rng, 10, 70), (_COARSE, _COARSE), interpolation=cv2.INTER_LINEAR)
    _blend(skin, _hair(traits, s, t, rng), identity.hair * (1 + 0.16 * strands[..., None]))
    coarse = np.clip(skin, 0, 255).astype(np.uint8)
    chart = cv2.resize(coarse, (CHART_PX, CHART_PX), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    _paint_marks(chart, identity, rng)
    occlusion = np.clip(1 + 3.2 * (height - cv2.GaussianBlur(height, (0, 0), 3)), 0.72, 1.10)
    occlusion = cv2.resize(occlusion, (CHART_PX, CHART_PX), interpolation=cv2.INTER_LINEAR)
    return cv2.convertScaleAbs(chart * occlusion[..., None])


def _normal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return rng.standard_normal((rows, columns), dtype=np.float32)


def _blend(picture: Array, share: Array, colour: npt.NDArray) -> None:
    picture += share[..., None] * (colour.astype(np.float32) - picture)


def _glow(axis: Array, s0: float, t0: float, width_s: float, width_t: float) -> Array:
    """A soft spot on both sides of the face, or in its middle for s0 = 0."""
    across = np.exp(-(((axis - s0) / width_s) ** 2))
    if s0:
        across = across + across[::-1]
    return np.outer(np.exp(-(((axis - t0) / width_t) ** 2)), across)


def _beard(traits: Traits, axis: Array, rng: np.random.Generator) -> Array:
    s, t = axis[None], axis[:, None]
    chin = np.maximum(_smoothstep(t, 0.36, 0.50), 0.8 * _smoothstep(abs(s) + 0.25 * t, 0.50, 0.62) * (t > 0))
    lip = _glow(axis, 0, traits.mouth_t - 0.055, 0.13, 0.028)
    share = np.clip(traits.beard, 0, 1) * chin + np.clip(traits.moustache, 0, 1) * lip
    return np.clip(0.75 * share * (0.85 + 0.25 * _normal(rng, *share.shape)), 0, 0.9)


def _hair(traits: Traits, s: Array, t: Array, rng: np.random.Generator) -> Array:
    wave = cv2.resize(_normal(rng, 1, 9), (_COARSE, 1), interpolation=cv2.INTER_CUBIC) * 0.025
    hairline = traits.hairline_t + traits.hairline_slant * s + wave - 0.35 * s**2 + 0.05 * np.cos(9 * s)
    hairline += traits.hairline_peak * np.exp(-((s / 0.12) ** 2))
    bottom = 0.15 + 0.25 * traits.hair_length
    sides = _smoothstep(abs(s) - traits.hair_side_s + 0.06 * t, -0.03, 0.03) * (
        1 - _smoothstep(t, bottom, bottom + 0.1)
    )
    return np.maximum(1 - _smoothstep(t - hairline, -0.02, 0.02), sides)


def _paint_marks(chart: Picture, identity: Identity, rng: np.random.Generator) -> None:
    traits, skin = identity.traits, identity.skin
    count = int(90 * max(traits.freckles, 0))
    for s, t, size in zip(rng.normal(0, 0.28, count), rng.normal(0.12, 0.09, count), rng.random(count), strict=True):
        _disc(chart, s, t, 0.006 + 0.008 * size, skin * (0.84, 0.70, 0.62))
    moles = (
        (traits.mole_1, traits.mole_1_s, traits.mole_1_t),
        (traits.mole_2, traits.mole_2_s, traits.mole_2_t),
        (traits.mole_3, traits.mole_3_s, traits.mole_3_t),
    )
    for size, s, t in moles:
        if size > 0:
            _disc(chart, s, t, 0.008 + 0.012 * size, skin * (0.42, 0.32, 0.28))
    for strength, t in ((traits.wrinkles, -0.20), (traits.wrinkles - 0.3, -0.26), (traits.wrinkles - 0.6, -0.31)):
        if strength > 0:
            across = np.linspace(-0.2, 0.2, 9)
            _stroke(chart, across, t + 0.02 * np.cos(9 * across), skin * (1 - 0.22 * min(strength, 1)))
    if traits.wrinkles > 0:
        for side in (-1, 1):
            fold = np.linspace(0, 1, 7)
            _stroke(
                chart,
                side * (traits.nostril_width_s + 0.03 + 0.07 * fold),
                traits.nose_tip_t + 0.02 + 0.14 * fold**1.3,
                skin * (1 - 0.20 * min(traits.wrinkles, 1)),
                2,
            )


def mouth_corners(identity: Identity, nuisance: Nuisance) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return s and t, [2] each, of the left and the right corner of the mouth, as the expression moves them."""
    traits = identity.traits
    half = traits.mouth_width_s * (1 + 0.16 * nuisance.smile - 0.10 * nuisance.mouth_open)
    lift = traits.mouth_curve + 0.030 * nuisance.smile
    return np.array([-half, half]), np.full(2, traits.mouth_t - lift)


def paint_expression(chart: Picture, identity: Identity, nuisance: Nuisance, rng: np.random.Generator) -> None:
    """Paint eyes, brows, nostrils and mouth, and what hides them on the skin, into a copy of the base chart.

    Args:
        chart: [CHART_PX, CHART_PX, 3] uint8, RGB; changed in place.
        identity: Whose face.
        nuisance: Expression and things worn.
        rng: Source of the colours of things worn.
    """
    for side in (-1, 1):
        _paint_eye(chart, identity, nuisance, side)
        _paint_brow(chart, identity, nuisance, side)
        traits = identity.traits
        nostril = np.linspace(0, 2 * np.pi, 9)
        _fill(
            chart,
            side * traits.nostril_width_s * 0.62 + 0.017 * np.cos(nostril),
            traits.nose_tip_t + 0.036 + 0.009 * np.sin(nostril),
            identity.skin * (0.38, 0.27, 0.24),
        )
    _paint_mouth(chart, identity, nuisance)
    _paint_worn(chart, identity, nuisance, rng)


def _paint_eye(chart: Picture, identity: Identity, nuisance: Nuisance, side: int) -> None:
    traits, skin = identity.traits, identity.skin
    s0, t0, half = side * traits.eye_spacing_s, traits.eye_height_t, traits.eye_width_s
    opening = half * traits.eye_opening * (1 - nuisance.eyes_closed)
    u = np.linspace(-1, 1, 11)
    across = s0 + half * u
    line = t0 + side * traits.eye_tilt * half * u
    upper = line - opening * 1.15 * (1 - u**2) ** 0.75
    lower = line + opening * 0.75 * (1 - u**2)
    eye = chart.copy()
    _fill(eye, across[[0, -1, -1, 0]], t0 + half * _BOX, (232, 226, 222))
    iris_s, iris_t = s0 + 0.35 * half * nuisance.gaze_s, t0 - 0.1 * opening + 0.02 * nuisance.gaze_t
    _disc(eye, iris_s, iris_t, traits.iris_size, identity.iris * 0.55)
    _disc(eye, iris_s, iris_t, traits.iris_size * 0.86, identity.iris)
    _disc(eye, iris_s, iris_t, traits.iris_size * 0.42, (12, 10, 10))
    _disc(eye, iris_s - 0.012, iris_t - 0.012, 0.007, (250, 250, 250))
    mask = np.zeros((CHART_PX, CHART_PX), np.uint8)
    _fill(mask, _there_and_back(across), np.concatenate([upper, lower[::-1]]), 255)
    cv2.copyTo(eye, mask, chart)  # its hard edge lies under the strokes
    if traits.lid_crease > 0:
        _stroke(chart, across, upper - 0.022, skin * (1 - 0.35 * min(traits.lid_crease, 1)))
    _stroke(chart, across, upper, np.minimum(identity.hair * 0.6, 60), 2)
    _stroke(chart, across, lower, skin * 0.62)


def _paint_brow(chart: Picture, identity: Identity, nuisance: Nuisance, side: int) -> None:
    traits = identity.traits
    u = np.linspace(0, 1, 9)  # from the nose outwards
    half = traits.brow_length_s
    across = side * (traits.eye_spacing_s + half * (1.9 * u - 1))
    centre = traits.eye_height_t - traits.brow_gap_t - 0.022 * nuisance.brow_raise
    line = centre + traits.brow_tilt * half * (2 * u - 1) - traits.brow_arch * np.sin(np.pi * u**1.3)
    thick = max(traits.brow_thickness_t, 0.006) * (1 - 0.75 * u**2)
    shape = _there_and_back(across), np.concatenate([line - thick, (line + thick)[::-1]])
    colour = identity.hair * 0.75
    blend = float(np.clip(traits.brow_darkness, 0.25, 1))
    _fill(chart, *shape, identity.skin + blend * (colour - identity.skin))


def _paint_mouth(chart: Picture, identity: Identity, nuisance: Nuisance) -> None:
    traits = identity.traits
    (_, half), (corner_t, _) = mouth_corners(identity, nuisance)
    u = np.linspace(-1, 1, 15)
    across = half * u
    gap = 0.085 * min(nuisance.mouth_open, 1.5) * (1 - u**2) ** 0.7
    line = traits.mouth_t + (corner_t - traits.mouth_t) * u**2
    bow = 1 - 0.35 * np.exp(-((u / 0.16) ** 2))
    upper = line - 0.3 * gap - max(traits.upper_lip_t, 0.008) * bow * (1 - u**2) ** 0.6
    lower = line + 0.7 * gap + max(traits.lower_lip_t, 0.012) * (1 - u**2) ** 0.6
    redness = float(np.clip(traits.lip_redness, 0, 1))
    lips = identity.skin * np.array([0.93, 0.72, 0.70]) * (1 - redness) + redness * np.array([168.0, 62, 66])
    back = _there_and_back(across)
    _fill(chart, back, np.concatenate([upper, lower[::-1]]), lips)
    _stroke(chart, across, lower + 0.006, identity.skin * 0.78)
    if nuisance.mouth_open > 0.15:
        _fill(chart, back, np.concatenate([line - 0.3 * gap, (line + 0.7 * gap)[::-1]]), (58, 22, 24))
        _fill(chart, back * 0.9, np.concatenate([line - 0.3 * gap, (line - 0.02 * gap)[::-1]]), (226, 220, 210))
    else:
        _stroke(chart, across, line, lips * 0.45, 2)


def _paint_worn(chart: Picture, identity: Identity, nuisance: Nuisance, rng: np.random.Generator) -> None:
    traits = identity.traits
    if "fringe" in nuisance.worn:
        edge = np.linspace(-0.75, 0.75, 13)
        low = traits.hairline_t + rng.uniform(0.10, 0.24) + rng.normal(0, 0.03, 13) + rng.normal(0, 0.1) * edge
        _fill(chart, np.r_[edge, 0.75, -0.75], np.r_[low, -1, -1], identity.hair * 0.92)
    if "cap" in nuisance.worn:
        colour, edge = rng.uniform(15, 235, 3), np.linspace(-1.25, 1.25, 13)
        low = rng.uniform(-0.36, -0.22) + 0.10 * edge**2
        _fill(chart, np.r_[edge, 1.25, -1.25], np.r_[low, -1.25, -1.25], colour)
        _stroke(chart, edge, low, colour * 0.7, 5)
    if "mask" in nuisance.worn:
        colour = np.array([(150, 190, 215), (235, 235, 238), (30, 30, 34), (190, 150, 160)], float)[rng.integers(4)]
        side, top = np.linspace(-1, 1, 13), traits.nose_tip_t - rng.uniform(0.02, 0.08)
        over_nose = top + 0.10 * abs(side) ** 1.5
        _fill(chart, np.r_[0.60 * side, 0.45, -0.45], np.r_[over_nose, 0.72, 0.72], colour)
        for fold in (0.12, 0.24, 0.36):
            _stroke(chart, 0.5 * side, over_nose + fold, colour * 0.86)


def chart_colours(chart: Picture, s: npt.NDArray[np.float32], t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Read the chart at chart coordinates: [H, W] each to [H, W, 3] float32 in 0..255."""
    return sample_map(chart, s, t).astype(np.float32)
