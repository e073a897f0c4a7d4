"""The face on the chart of the head: colour, pulsatility, surface normals and gloss. Soft shapes, no pictures.

The chart is the stereographic projection s = n_x / (1 + n_z), t = n_y / (1 + n_z) of the direction n in which a point
lies from the head's centre (x right, y down, z out of the face): it keeps angles and covers the front and the sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.core.runtime.opencv import cv2
from robustvision.rppg.synthetic.skin import skin_colour, to_linear

Array = npt.NDArray[np.float32]

CHART_HALF = 1.25
CHART_PX = 192

_AXIS = (((np.arange(CHART_PX) + 0.5) / CHART_PX * 2 - 1) * CHART_HALF).astype(np.float32)
_S, _T = _AXIS[None], _AXIS[:, None]
_HAIR = ((28, 22, 20), (58, 38, 26), (96, 66, 40), (150, 116, 72), (120, 116, 112))  # sRGB


@dataclass(frozen=True, eq=False)
class Face:
    """One person's head.

    Attributes:
        axes: float64 [3], half axes of the head to the right, down and to the front; half its height is 1.
        colour: float32 [CHART_PX, CHART_PX, 4], albedo in linear RGB and pulsatility m in 0..1.
        colour_closed: The same with closed eyes.
        surface: float32 [CHART_PX, CHART_PX, 4], unit normal and gloss in 0..1.
        mouth_t: Where the mouth is, on the chart.
        skin: float32 [3], albedo of the skin.
        cloth: float32 [3], albedo of what is worn.
    """

    axes: npt.NDArray[np.float64]
    colour: Array
    colour_closed: Array
    surface: Array
    mouth_t: float
    skin: Array
    cloth: Array

    @classmethod
    def sample(cls, rng: np.random.Generator, skin_type: int) -> Face:
        """Draw a person of a Fitzpatrick type."""
        look = _Look.sample(rng, skin_type)
        colour = _paint_skin(look, rng)
        _paint_nose_and_mouth(colour, look)
        closed = colour.copy()
        for side in (-1, 1):
            _paint_eye(colour, look, side)
            _paint_lid(closed, look, side)
            _paint_brow(colour, look, side)
            _paint_brow(closed, look, side)
        _paint_hair(colour, look)
        _paint_hair(closed, look)
        cloth = to_linear(rng.uniform(0.1, 0.8) * rng.uniform(0.6, 1, 3))
        return cls(look.axes, colour, closed, _surface(look, colour), look.mouth_t, look.skin, cloth)


@dataclass(frozen=True, eq=False)
class _Look:
    """Places on the chart and colours of one face; lengths beside the axes are on the chart."""

    axes: npt.NDArray[np.float64]
    skin: Array
    hair: Array
    iris: Array
    eye_s: float
    eye_t: float
    eye_width: float
    eye_opening: float
    brow_gap: float
    brow_thickness: float
    nose_t: float
    nose_width: float
    nose_height: float
    mouth_t: float
    mouth_width: float
    lip: float
    hairline_t: float
    beard: float

    @classmethod
    def sample(cls, rng: np.random.Generator, skin_type: int) -> _Look:
        hair = _HAIR[rng.integers(len(_HAIR)) if skin_type < 4 else rng.integers(2)]
        iris = (70, 50, 35) if skin_type > 2 or rng.random() < 0.5 else (95, 120, 130)
        return cls(
            axes=np.array([rng.uniform(0.68, 0.78), 1.0, rng.uniform(0.8, 0.92)]),
            skin=skin_colour(skin_type, rng),
            hair=to_linear(np.array(hair) / 255),
            iris=to_linear(np.array(iris) / 255),
            eye_s=rng.uniform(0.20, 0.23),
            eye_t=rng.uniform(-0.03, 0.01),
            eye_width=rng.uniform(0.08, 0.1),
            eye_opening=rng.uniform(0.036, 0.048),
            brow_gap=rng.uniform(0.085, 0.115),
            brow_thickness=rng.uniform(0.014, 0.026),
            nose_t=rng.uniform(0.13, 0.16),
            nose_width=rng.uniform(0.05, 0.065),
            nose_height=rng.uniform(0.14, 0.2),
            mouth_t=rng.uniform(0.335, 0.37),
            mouth_width=rng.uniform(0.165, 0.2),
            lip=rng.uniform(0.024, 0.036),
            hairline_t=rng.uniform(-0.42, -0.32),
            beard=rng.uniform(0.3, 0.8) if rng.random() < 0.2 else 0.0,
        )


def sample_chart(chart: Array, s: Array, t: Array) -> Array:
    """Read a chart at [H, W] coordinates, bilinearly; float32 [H, W, 4]."""
    scale, offset = CHART_PX / (2 * CHART_HALF), CHART_PX / 2 - 0.5
    return np.asarray(
        cv2.remap(chart, s * scale + offset, t * scale + offset, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def _step(x: npt.NDArray[np.floating], low: float, high: float) -> Array:
    u = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(u * u * (3 - 2 * u), np.float32)


def _blob(s0: float, t0: float, width_s: float, width_t: float) -> Array:
    return np.asarray(np.exp(-(((_S - s0) / width_s) ** 2) - ((_T - t0) / width_t) ** 2), np.float32)


def _pair(s0: float, t0: float, width_s: float, width_t: float) -> Array:
    return _blob(s0, t0, width_s, width_t) + _blob(-s0, t0, width_s, width_t)


def _disc(s0: float, t0: float, radius_s: float, radius_t: float) -> Array:
    distance = np.sqrt(((_S - s0) / radius_s) ** 2 + ((_T - t0) / radius_t) ** 2)
    return 1 - _step(distance, 0.85, 1.15)


def _lay(colour: Array, share: Array, albedo: npt.ArrayLike, pulsatility: float = 0.0) -> None:
    """Cover a share of each point with another material."""
    target = np.append(np.asarray(albedo, np.float32), np.float32(pulsatility))
    colour += share[..., None] * (target - colour)


def _paint_skin(look: _Look, rng: np.random.Generator) -> Array:
    mottle = cv2.resize(rng.standard_normal((24, 24)).astype(np.float32), (CHART_PX, CHART_PX))
    fine = rng.standard_normal((CHART_PX, CHART_PX)).astype(np.float32)
    tone = 1 + 0.05 * mottle + 0.04 * cv2.GaussianBlur(fine, (0, 0), 1.0)
    blush = (0.3 * _pair(0.33, 0.2, 0.14, 0.1) + 0.2 * _blob(0, look.nose_t, 0.08, 0.06)) * rng.uniform(0.3, 1)
    shadow = 1 - 0.22 * _pair(look.eye_s, look.eye_t + 0.02, 0.12, 0.07)
    colour = np.empty((CHART_PX, CHART_PX, 4), np.float32)
    colour[..., :3] = look.skin * (tone * shadow)[..., None] * (1 - blush[..., None] * np.array([0.05, 0.4, 0.35]))
    rich = _pair(0.34, 0.2, 0.2, 0.16) + _blob(0, look.eye_t - 0.24, 0.34, 0.12)
    colour[..., 3] = 0.55 + 0.45 * np.clip(1.3 * rich, 0, 1)
    patches = cv2.resize(rng.standard_normal((8, 8)).astype(np.float32), (CHART_PX, CHART_PX))
    colour[..., 3] *= np.clip(1 + 0.15 * patches, 0.4, 1.6)
    np.clip(colour[..., 3], 0, 1, out=colour[..., 3])
    chin = _step(_T, 0.40, 0.52) * np.ones_like(_S) + 0.8 * _blob(0, look.mouth_t - 0.06, 0.14, 0.03)
    stubble = np.clip(look.beard * chin * (1 + 0.3 * fine), 0, 0.9)
    _lay(colour, stubble, look.hair)
    return colour


def _paint_nose_and_mouth(colour: Array, look: _Look) -> None:
    for side in (-1, 1):
        _lay(colour, 0.8 * _disc(side * 0.6 * look.nose_width, look.nose_t + 0.035, 0.018, 0.011), 0.12 * look.skin)
    half = look.mouth_width
    arc = np.clip(1 - (_S / half) ** 2, 0, 1)
    upper = _step(_T - (look.mouth_t - look.lip * arc), -0.008, 0.008)
    lower = 1 - _step(_T - (look.mouth_t + 1.3 * look.lip * arc), -0.008, 0.008)
    inside = 1 - _step(abs(_S) / half, 0.92, 1.0)
    _lay(colour, 0.8 * upper * lower * inside, look.skin * np.array([0.8, 0.45, 0.45]), 0.5)
    line = np.exp(-(((_T - look.mouth_t) / 0.008) ** 2)) * inside
    _lay(colour, 0.9 * line.astype(np.float32), 0.12 * look.skin)


def _almond(look: _Look, side: int) -> tuple[Array, Array]:
    """Share of each point that the open eye covers, and the height of its upper edge above the eye's middle."""
    u = np.clip((_S - side * look.eye_s) / look.eye_width, -1, 1)
    top = look.eye_opening * (1 - u**2) ** 0.75
    bottom = 0.7 * look.eye_opening * (1 - u**2)
    below_top = _step(_T - look.eye_t + top, -0.006, 0.006)
    share = below_top * (1 - _step(_T - look.eye_t - bottom, -0.006, 0.006))
    return share * (abs(_S - side * look.eye_s) < look.eye_width), np.asarray(top, np.float32)


def _paint_eye(colour: Array, look: _Look, side: int) -> None:
    share, top = _almond(look, side)
    _lay(colour, share, (0.62, 0.60, 0.58))
    _lay(colour, share * _disc(side * look.eye_s, look.eye_t - 0.004, 0.04, 0.04), look.iris)
    _lay(colour, share * _disc(side * look.eye_s, look.eye_t - 0.004, 0.018, 0.018), (0.01, 0.01, 0.01))
    _lay(colour, share * _disc(side * look.eye_s - 0.012, look.eye_t - 0.016, 0.008, 0.008), (1, 1, 1))
    inside = 1 - _step(abs(_S - side * look.eye_s) / look.eye_width, 0.95, 1.1)
    lashes = np.exp(-(((_T - look.eye_t + top) / 0.011) ** 2)) * inside
    _lay(colour, 0.85 * lashes.astype(np.float32), (0.02, 0.015, 0.012))


def _paint_lid(colour: Array, look: _Look, side: int) -> None:
    share, _ = _almond(look, side)
    _lay(colour, share, 0.8 * look.skin)
    inside = 1 - _step(abs(_S - side * look.eye_s) / look.eye_width, 0.9, 1.05)
    lashes = np.exp(-(((_T - look.eye_t - 0.5 * look.eye_opening) / 0.010) ** 2)) * inside
    _lay(colour, 0.8 * lashes.astype(np.float32), (0.02, 0.015, 0.012))


def _paint_brow(colour: Array, look: _Look, side: int) -> None:
    u = (_S - side * look.eye_s) / (1.35 * look.eye_width)
    middle = look.eye_t - look.brow_gap + 0.022 * u**2 - 0.012 * side * u
    across = 1 - _step(abs(u), 0.8, 1.1)
    _lay(
        colour,
        0.85 * across * (1 - _step(abs(_T - middle) / look.brow_thickness, 0.6, 1.3)),
        0.7 * look.hair,
    )


def _paint_hair(colour: Array, look: _Look) -> None:
    line = look.hairline_t - 0.3 * _S**2 + 0.02 * np.cos(11 * _S)
    top = 1 - _step(_T - line, -0.03, 0.03)
    sides = _step(abs(_S) + 0.06 * _T, 0.60, 0.68) * (1 - _step(_T, 0.2, 0.35))
    strands = 0.85 + 0.3 * (0.5 + 0.5 * np.sin(60 * _S + 7 * _T))
    share = np.maximum(top, sides)
    colour[..., :3] += share[..., None] * (look.hair * strands[..., None] - colour[..., :3])
    colour[..., 3] *= 1 - share


def _surface(look: _Look, colour: Array) -> Array:
    """Normals of the ellipsoid, bent by the relief of nose, brow, eye sockets, cheeks, lips and chin."""
    relief = look.nose_height * _blob(0, look.nose_t - 0.01, look.nose_width, 0.055)
    relief += 0.55 * look.nose_height * _blob(0, (look.eye_t + look.nose_t) / 2, 0.75 * look.nose_width, 0.1)
    relief += 0.05 * _pair(look.nose_width, look.nose_t + 0.015, 0.032, 0.032)
    relief += -0.05 * _pair(look.eye_s, look.eye_t, 0.12, 0.07) + 0.022 * _pair(look.eye_s, look.eye_t, 0.07, 0.04)
    relief += 0.03 * _blob(0, look.eye_t - look.brow_gap, 0.36, 0.06) + 0.04 * _pair(0.36, 0.11, 0.14, 0.1)
    relief += 0.035 * _blob(0, look.mouth_t, look.mouth_width, 0.07) + 0.06 * _blob(0, 0.66, 0.2, 0.16)
    square = _S**2 + _T**2
    direction = np.stack(
        np.broadcast_arrays(2 * _S / (1 + square), 2 * _T / (1 + square), (1 - square) / (1 + square)), -1
    )
    spacing = 2 * CHART_HALF / CHART_PX
    stretch = 2 / (1 + square)[..., None]  # length on the unit sphere of a unit of the chart
    along_t, along_s = np.gradient(direction, spacing, axis=(0, 1))
    slope_t, slope_s = np.gradient(relief, spacing)
    bend = (slope_s[..., None] * along_s + slope_t[..., None] * along_t) / stretch**2
    normal = (direction - bend) / look.axes
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    gloss = np.clip(colour[..., 3], 0, 1) * (0.6 + 0.8 * _blob(0, look.eye_t - 0.2, 0.25, 0.15))
    gloss += 0.5 * _blob(0, look.nose_t, 0.05, 0.1)
    return np.concatenate([normal, gloss[..., None]], -1).astype(np.float32)
