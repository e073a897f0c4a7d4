"""Surfaces of buildings, painted with depth: of two on a line of sight, the higher one is seen.

All rays are parallel, so the points that fall on one pixel lie on one line towards the sensor, and the one with the
greater height hides the others. That is painting the far ones first, without having to sort them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robustvision.buildings.synthetic.district import District
from robustvision.buildings.synthetic.layout import SIZES, Block
from robustvision.buildings.synthetic.raster import parallelogram

Array = npt.NDArray[np.float64]
GROUND, ROOF, FACADE, TREE = range(4)


@dataclass(frozen=True)
class View:
    """From where the camera and the sun look.

    Attributes:
        lean: [2] what a top moves in the picture for each metre of height, in metres: x right, y down.
        shadow: [2] likewise what a shadow moves on the ground.
    """

    lean: Array
    shadow: Array

    @property
    def light(self) -> Array:
        """[2] unit vector on the ground, away from the sun."""
        return self.shadow / np.hypot(*self.shadow)


@dataclass
class Canvas:
    """Surface numbers with depth, and what each number stands for.

    Attributes:
        ids: uint32 [H, W], number of the surface that is seen.
        height_m: float32 [H, W], of the point that is seen.
        colours: Colour by number, 0 to 255.
        kinds: ``GROUND``, ``ROOF``, ``FACADE`` or ``TREE`` by number.
        owners: Building by number, 0 for none.
        in_light: By number, whether the sun reaches it at all: a wall that is turned away has its shade already.
    """

    ids: npt.NDArray[np.uint32]
    height_m: npt.NDArray[np.float32]
    colours: list[Array] = field(default_factory=lambda: [np.zeros(3)])
    kinds: list[int] = field(default_factory=lambda: [GROUND])
    owners: list[int] = field(default_factory=lambda: [0])
    in_light: list[bool] = field(default_factory=lambda: [True])

    @classmethod
    def empty(cls, height: int, width: int) -> Canvas:
        """Return open ground."""
        return cls(np.zeros((height, width), np.uint32), np.full((height, width), -1, np.float32))

    def add(self, colour: Array, kind: int, owner: int = 0, *, in_light: bool = True) -> int:
        """Return the number of a new surface."""
        self.colours.append(np.clip(colour, 0, 255))
        self.kinds.append(kind)
        self.owners.append(owner)
        self.in_light.append(in_light)
        return len(self.kinds) - 1

    def put(
        self,
        window: tuple[slice, slice],
        inside: npt.NDArray[np.bool_],
        height_m: float | npt.NDArray[np.float32],
        ids: int | npt.NDArray[np.uint32],
    ) -> None:
        """Paint where it is higher than what is there."""
        depth = self.height_m[window]
        seen = inside & (height_m > depth)
        np.copyto(depth, height_m, where=seen, casting="same_kind")
        np.copyto(self.ids[window], np.asarray(ids, np.uint32), where=seen)


def paint_building(
    canvas: Canvas, rng: np.random.Generator, block: Block, number: int, style: District, view: View, scale: float
) -> None:
    """Paint a building's walls and roof.

    Args:
        canvas: Written to.
        rng: Source of its colours; the same draws whether or not it is in the picture.
        block: The building.
        number: Its owner number.
        style: Its district.
        view: Camera and sun.
        scale: Pixels of the canvas a metre.
    """
    wall = style.walls[rng.integers(len(style.walls))] * rng.uniform(0.85, 1.15)
    roof = style.roofs[rng.integers(len(style.roofs))] * rng.uniform(0.85, 1.15)
    floor_m, bay_m = rng.uniform(*SIZES[block.height_class].floor_m), rng.uniform(2.5, 5.0)
    glass, has_bands = rng.uniform(0.35, 0.75), bool(rng.random() < 0.5)
    is_gable = bool(rng.random() < SIZES[block.height_class].gabled * style.gabled)
    offset = view.lean * (block.height_m * scale)
    ring = block.ring_m * scale
    for start, end, normal in zip(ring, np.roll(ring, -1, axis=0), _outward(ring), strict=True):
        if normal @ offset >= 0:
            continue  # its own roof hides it
        patch = parallelogram(start, end - start, offset, canvas.ids.shape)
        if patch is None:
            continue
        facing = float(-normal @ view.light)
        tone = 0.5 + 0.55 * max(0.0, facing)
        plain = canvas.add(wall * tone, FACADE, number, in_light=facing > 0)
        window = canvas.add(wall * tone * glass, FACADE, number, in_light=facing > 0)
        up_m = patch.across * block.height_m
        is_window = (up_m / floor_m + 0.25) % 1 > 0.5
        if not has_bands:
            length_m = float(np.hypot(*(end - start))) / scale
            is_window &= (patch.along * max(1, round(length_m / bay_m)) + 0.2) % 1 > 0.4
        ids = np.where(is_window, window, plain).astype(np.uint32)
        canvas.put(patch.window, patch.inside, up_m.astype(np.float32), ids)
    for part in block.parts_m:
        _paint_roof(canvas, rng, part * scale, offset, block.height_m, number, roof, is_gable, view, scale)


def _outward(ring: Array) -> Array:
    """[n, 2] unit normals of a ring's edges, away from the inside."""
    following = np.roll(ring, -1, axis=0)
    area = ring[:, 0] @ following[:, 1] - ring[:, 1] @ following[:, 0]
    edges = following - ring
    normals = np.column_stack([edges[:, 1], -edges[:, 0]]) / np.hypot(*edges.T)[:, None]
    return normals if area > 0 else -normals


def _paint_roof(
    canvas: Canvas,
    rng: np.random.Generator,
    part: Array,
    offset: Array,
    height_m: float,
    number: int,
    colour: Array,
    is_gable: bool,
    view: View,
    scale: float,
) -> None:
    """Paint a rectangle of roof: two slopes, or a flat one with a rim and boxes."""
    origin, first, second = part[0] + offset, part[1], part[2]
    boxes = rng.uniform(0.12, 0.6, (rng.integers(0, 4), 4))
    tones = rng.uniform(0.75, 1.2, 2)
    patch = parallelogram(origin, first, second, canvas.ids.shape)
    if patch is None:
        return
    sides = np.hypot(*part[1:].T)
    if is_gable:
        slope = float(second @ view.light) / sides[1] * 0.22
        near, far = (canvas.add(colour * (1 + sign * slope), ROOF, number) for sign in (-1, 1))
        # the slope at the start of `second` falls against it: it faces the sun if `second` points along the light
        ids = np.where(patch.across < 0.5, far, near)
    else:
        plain, rim = canvas.add(colour, ROOF, number), canvas.add(colour * tones[1], ROOF, number)
        to_edge = np.minimum(
            np.minimum(patch.along, 1 - patch.along) * sides[0], np.minimum(patch.across, 1 - patch.across) * sides[1]
        )
        ids = np.where(to_edge < 0.5 * scale, rim, plain)
        if len(boxes):
            top, dark = canvas.add(colour * tones[0], ROOF, number), canvas.add(colour * 0.5, ROOF, number)
            drop = 2.0 * scale * np.array([view.shadow @ part[1], view.shadow @ part[2]]) / sides**2
            for surface, (du, dv) in ((dark, drop), (top, (0.0, 0.0))):
                for left, low, width, depth in boxes * (1, 1, 0.45, 0.45):
                    u, v = patch.along - left - du, patch.across - low - dv
                    ids[(u > 0) & (u < width) & (v > 0) & (v < depth) & (to_edge > 0.5 * scale)] = surface
    canvas.put(patch.window, patch.inside, height_m, ids.astype(np.uint32))
