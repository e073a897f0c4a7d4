"""A plan becomes a picture with its truth: ground, buildings, shadows, trees, air and camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustvision.buildings.synthetic.district import District
from robustvision.buildings.synthetic.layout import Block, Plan
from robustvision.buildings.synthetic.raster import fill_polygon, parallelogram
from robustvision.buildings.synthetic.surfaces import FACADE, GROUND, ROOF, TREE, Canvas, View, paint_building
from robustvision.core.runtime.opencv import cv2

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

OVERSAMPLING = 3
"""Samples along a pixel; odd, so that one of them is the pixel's centre, from which the truth is taken."""

_SHADE = np.array([0.42, 0.46, 0.54], np.float32)
_SHIFT = 4  # bits behind the point that OpenCV's polygons take


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture, and the truth per pixel as in `Scene`."""

    image: npt.NDArray[np.uint8]
    footprint: Bool
    roof: Bool
    facade: Bool
    instances: npt.NDArray[np.int32]


def render(
    rng: np.random.Generator, plans: Sequence[Plan], view: View, gsd_m: float, height_px: int, width_px: int
) -> Rendered:
    """Render what stands in some places, seen by one camera under one sun.

    Args:
        rng: Source of colours, textures and noise.
        plans: The places; where their ground overlaps, the last one's lies on top.
        view: Camera and sun.
        gsd_m: Ground sampling distance.
        height_px: Rows of the picture.
        width_px: Columns.

    Returns:
        The picture; buildings are numbered from 1 through all plans.
    """
    scale = OVERSAMPLING / gsd_m
    canvas = Canvas.empty(height_px * OVERSAMPLING, width_px * OVERSAMPLING)
    terrain = np.zeros((height_px, width_px, 3), np.float32)
    for plan in plans:
        _paint_ground(canvas, terrain, rng, plan, gsd_m)
    number = 0
    for plan in plans:
        for block in plan.blocks:
            number += 1
            paint_building(canvas, rng, block, number, plan.style, view, scale)
    blocks = [block for plan in plans for block in plan.blocks]
    footprint = np.zeros((height_px, width_px), bool)
    for block in blocks:
        fill_polygon(footprint, block.ring_m / gsd_m)
    centre = canvas.ids[OVERSAMPLING // 2 :: OVERSAMPLING, OVERSAMPLING // 2 :: OVERSAMPLING]
    kinds, owners = np.array(canvas.kinds)[centre], np.array(canvas.owners, np.int32)[centre]
    roof = kinds == ROOF
    trees = _standing_trees(plans, footprint, view, gsd_m)
    in_shade = _shade(canvas, blocks, trees, view, gsd_m)
    _paint_trees(canvas, rng, trees, view, scale)
    light = _light(canvas, terrain, in_shade)
    image = _photograph(rng, light, plans[0].style)
    return Rendered(image, footprint, roof, kinds == FACADE, np.where(roof, owners, 0).astype(np.int32))


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell_px: float) -> Float32:
    """Return a field of about unit variance that changes over some pixels: float32 [height, width]."""
    rows, columns = int(height / cell_px) + 4, int(width / cell_px) + 4
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    size = (max(width, int(columns * cell_px)), max(height, int(rows * cell_px)))
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)[:height, :width]


def _paint_ground(canvas: Canvas, terrain: Float32, rng: np.random.Generator, plan: Plan, gsd_m: float) -> None:
    """Paint a place's open ground, streets and pads inside its bounds."""
    height, width = terrain.shape[:2]
    left, top, right, bottom = (round(bound / gsd_m) for bound in plan.bounds_m)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    part = terrain[rows, columns]
    high, wide = part.shape[:2]
    colours = plan.style.terrain.astype(np.float32)
    part[:] = colours[0]
    for colour, cell_m in ((colours[1], 14.0), (colours[2], 7.0)):
        share = np.clip(0.5 + 0.9 * smooth_noise(rng, high, wide, cell_m / gsd_m), 0, 1)
        part += (share * 0.8)[..., None] * (colour - part)
    part *= (1 + 0.06 * smooth_noise(rng, high, wide, max(1.0, 1.2 / gsd_m)))[..., None]
    samples = tuple(slice(at.start * OVERSAMPLING, at.stop * OVERSAMPLING) for at in (rows, columns))
    ids = np.zeros((high * OVERSAMPLING, wide * OVERSAMPLING), np.int32)
    origin = np.array([columns.start, rows.start]) * gsd_m
    for kerb, colour in ((1.25, plan.style.road * 1.18), (1.0, plan.style.road)):
        _fill(ids, _scaled(plan.roads_m, kerb) - origin, canvas.add(colour, GROUND), gsd_m)
    for pad in plan.pads_m:
        roofs = plan.style.roofs
        colour = roofs[rng.integers(len(roofs))] if rng.random() < 0.6 else np.full(3, rng.uniform(150, 215))
        tones = (colour * rng.uniform(0.9, 1.2), colour * rng.uniform(0.9, 1.1))
        for size, tone in zip((1.0, rng.uniform(0.7, 0.95)), tones, strict=True):
            _fill(ids, _scaled(pad[None], size) - origin, canvas.add(tone, GROUND), gsd_m)
    canvas.ids[samples] = ids


def _scaled(quads: Array, factor: float) -> Array:
    """[n, 4, 2] quads, wider by a factor across their second edge, and as long."""
    middle = (quads + np.roll(quads, -2, axis=1)[:, [1, 0, 3, 2]]) / 2
    return middle + (quads - middle) * factor


def _fill(ids: npt.NDArray[np.int32], quads_m: Array, number: int, gsd_m: float) -> None:
    points = np.round((quads_m * (OVERSAMPLING / gsd_m) - 0.5) * 2**_SHIFT).astype(np.int32)
    for quad in points:
        cv2.fillConvexPoly(ids, quad, number, shift=_SHIFT)


def _standing_trees(plans: Sequence[Plan], footprint: Bool, view: View, gsd_m: float) -> Array:
    """[n, 4] the trees whose canopies or shadows may be seen, without those that stand in a building."""
    trees = np.concatenate([plan.trees_m for plan in plans])
    height, width = footprint.shape
    reach = 2 * trees[:, 2:3] + trees[:, 3:] * max(np.abs(view.lean).max(), np.abs(view.shadow).max())
    place, size = trees[:, :2], np.array([width, height]) * gsd_m
    trees = trees[((place > -reach) & (place < size + reach)).all(axis=1)]
    column, row = np.floor(trees[:, :2] / gsd_m).astype(int).T
    is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    hit = footprint[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    return trees[~(is_inside & hit)]


def _shade(canvas: Canvas, blocks: Sequence[Block], trees: Array, view: View, gsd_m: float) -> Bool:
    """Return which samples of the canvas the sun does not reach.

    A map on the ground tells up to which height a point above it lies in the shadow of a building: the footprint swept
    by h / tan(elevation), with the height falling along the sweep. Each sample looks up its own point.
    """
    height, width = (side // OVERSAMPLING for side in canvas.ids.shape)
    margin = 2 + int(np.ceil(max((block.height_m for block in blocks), default=0) * np.hypot(*view.lean) / gsd_m))
    dark_m = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    for x, y, radius, tall in trees:
        at = ((x, y) + view.shadow * tall * 0.6) / gsd_m + margin
        cv2.circle(dark_m, np.round(at * 16).astype(int).tolist(), round(radius / gsd_m * 16), 0.6, -1, shift=_SHIFT)
    for block in blocks:
        ring, sweep = block.ring_m / gsd_m + margin, view.shadow * (block.height_m / gsd_m)
        for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            patch = parallelogram(start, end - start, sweep, dark_m.shape)
            if patch is not None:
                falling = ((1 - patch.across) * block.height_m).astype(np.float32)
                part = dark_m[patch.window]
                np.maximum(part, falling, out=part, where=patch.inside)
    seen_m = np.maximum(canvas.height_m, 0)
    lean = view.lean / gsd_m
    away = lean / max(float(np.hypot(*lean)), 1e-9) * 1.2  # a wall's own foot is dark on its inner side
    is_facade = (np.array(canvas.kinds) == FACADE).astype(np.float32).take(canvas.ids)
    at = [
        margin - 0.5 + (np.arange(side, dtype=np.float32) + 0.5) / OVERSAMPLING
        for side in (canvas.ids.shape[1], canvas.ids.shape[0])
    ]
    x = at[0] - seen_m * np.float32(lean[0]) - is_facade * np.float32(away[0])
    y = at[1][:, None] - seen_m * np.float32(lean[1]) - is_facade * np.float32(away[1])
    dark_here = cv2.remap(dark_m, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray((dark_here > seen_m + 0.3) & np.array(canvas.in_light).take(canvas.ids))


def _paint_trees(canvas: Canvas, rng: np.random.Generator, trees: Array, view: View, scale: float) -> None:
    """Paint canopies: ragged discs, each with a sunny side."""
    height, width = canvas.ids.shape
    rough = rng.standard_normal((64, 64), dtype=np.float32)
    rough = np.asarray(cv2.resize(rough, None, fx=scale * 0.7, fy=scale * 0.7, interpolation=cv2.INTER_LINEAR))
    greens = [
        [canvas.add(np.array([58, 84, 44]) * tone * rng.uniform(0.85, 1.25, 3), TREE) for tone in (0.75, 1.25)]
        for _ in range(3)
    ]
    for *place, radius, tall in trees:
        dark, sunny = greens[rng.integers(3)]
        left, top = rng.integers(0, rough.shape[0] // 2, 2)
        for ids, size, shift in ((dark, 1.0, 0.0), (sunny, 0.65, 0.35)):
            at = (place + view.lean * tall - view.light * radius * shift) * scale
            r = radius * size * scale
            first, last = np.floor(at - 1.4 * r).astype(int), np.ceil(at + 1.4 * r).astype(int)
            c0, c1, r0, r1 = max(first[0], 0), min(last[0], width), max(first[1], 0), min(last[1], height)
            if c0 >= c1 or r0 >= r1:
                continue
            x, y = np.arange(c0, c1) + 0.5, np.arange(r0, r1)[:, None] + 0.5
            distance = ((x - at[0]) / r) ** 2 + ((y - at[1]) / r) ** 2
            bumps = rough[top : top + r1 - r0, left : left + c1 - c0]
            window = (slice(r0, r0 + bumps.shape[0]), slice(c0, c0 + bumps.shape[1]))
            inside = distance[: bumps.shape[0], : bumps.shape[1]] < 1 + 0.45 * bumps
            canvas.put(window, inside, float(tall) + shift, ids)


def _light(canvas: Canvas, terrain: Float32, in_shade: Bool) -> Float32:
    """Return what reaches the camera: float32 [H, W, 3] in pixels of the picture, 0 to 1."""
    colours = np.array(canvas.colours, np.float32)  # open ground has 0: it comes from `terrain`
    number = canvas.ids + np.uint32(len(colours)) * in_shade
    light = np.concatenate([colours, colours * _SHADE]).take(number, axis=0)
    is_open = canvas.ids == 0
    ground = np.stack([is_open & ~in_shade, is_open & in_shade], axis=-1).astype(np.float32)
    size = (terrain.shape[1], terrain.shape[0])
    light, ground = (
        cv2.resize(fine, size, interpolation=cv2.INTER_AREA).astype(np.float32) for fine in (light, ground)
    )
    light += terrain * (ground[..., :1] + ground[..., 1:] * _SHADE)
    return light / np.float32(255)


def _photograph(rng: np.random.Generator, light: Float32, style: District) -> npt.NDArray[np.uint8]:
    """Fine texture, haze, blur, gain, offset and noise."""
    height, width = light.shape[:2]
    light *= (1 + 0.035 * rng.standard_normal((height, width), dtype=np.float32))[..., None]
    light = np.asarray(cv2.GaussianBlur(light, (5, 5), rng.uniform(0.45, 0.8)))
    haze = np.float32(style.haze) * np.array([0.82, 0.88, 0.96], np.float32)
    light = light * np.float32(1 - style.haze) + haze
    gain = np.float32(rng.uniform(0.85, 1.15)) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    light = light * gain + np.float32(rng.uniform(-0.04, 0.04))
    light += np.float32(rng.uniform(0.006, 0.018)) * rng.standard_normal(light.shape, dtype=np.float32)
    return np.clip(np.round(light * 255), 0, 255).astype(np.uint8)
