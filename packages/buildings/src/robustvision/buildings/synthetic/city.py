"""A city in one picture: four quarters, one for each height class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robustvision.buildings.synthetic.district import DISTRICTS, District, district
from robustvision.buildings.synthetic.layout import SIZES, Bounds, Plan, plan_place
from robustvision.buildings.synthetic.render import render
from robustvision.buildings.synthetic.scene import Scene
from robustvision.buildings.synthetic.source import draw_view, list_buildings
from robustvision.core.errors import InputError

MAX_SIDE_PX = 2048

_STREAM = 0xC17B
_AVENUE_M = 16.0


def render_city(
    height_px: int = 1024,
    width_px: int = 1024,
    gsd_m: float = 0.6,
    *,
    seed: int = 0,
    off_nadir_deg: float = 15.0,
    azimuth_deg: float | None = None,
) -> Scene:
    """Render a city: low and mid-rise quarters above, high-rise and skyscrapers below, each in its own style.

    Rays are parallel, as in a satellite's picture. 1024 x 1024 px took 2 s of one core and 0.5 GB.

    Args:
        height_px: Rows, up to 2048.
        width_px: Columns, likewise.
        gsd_m: Ground sampling distance.
        seed: Seed of the city.
        off_nadir_deg: Angle between the view and the vertical.
        azimuth_deg: Direction in which tops lean, clockwise from up; drawn where None.

    Returns:
        The scene; its class is ``mixed``, its district -1.

    Raises:
        InputError: For values out of range.
    """
    if not (64 <= height_px <= MAX_SIDE_PX and 64 <= width_px <= MAX_SIDE_PX):
        raise InputError(f"the city is {width_px} x {height_px} px: expected 64 to {MAX_SIDE_PX} a side")
    if not (0.05 <= gsd_m <= 10 and 0 <= off_nadir_deg <= 60 and seed >= 0):
        raise InputError(
            f"gsd_m {gsd_m}, off_nadir_deg {off_nadir_deg}, seed {seed}: expected 0.05 to 10, 0 to 60, 0 or more"
        )
    rng = np.random.default_rng((_STREAM, seed))
    styles = [district(int(number)) for number in rng.choice(DISTRICTS, 4, replace=False)]
    azimuth_deg = float(rng.uniform(0, 360)) if azimuth_deg is None else float(azimuth_deg)
    view = draw_view(rng, styles[0], off_nadir_deg, azimuth_deg)
    reach_m = SIZES["skyscraper"].height_m[1] * float(np.abs(view.lean).max())
    quarters = _quarters(height_px * gsd_m, width_px * gsd_m, reach_m)
    plans = [
        _plan_quarter(rng, style, height_class, bounds)
        for style, (height_class, bounds) in zip(styles, quarters.items(), strict=True)
    ]
    seen = render(rng, plans, view, gsd_m, height_px, width_px)
    blocks = tuple(block for plan in plans for block in plan.blocks)
    return Scene(
        name=f"city-{seed}",
        image=seen.image,
        buildings=list_buildings(blocks, gsd_m, off_nadir_deg, azimuth_deg, (height_px, width_px)),
        footprint=seen.footprint,
        roof=seen.roof,
        facade=seen.facade,
        shape=seen.roof | seen.facade,
        instances=seen.instances,
        gsd_m=float(gsd_m),
        off_nadir_deg=float(off_nadir_deg),
        azimuth_deg=azimuth_deg,
        height_class="mixed",
        district=-1,
    )


def _quarters(height_m: float, width_m: float, reach_m: float) -> dict[str, Bounds]:
    """Bounds by class: two by two in the picture, and so far beyond it that what leans in is there."""
    left, middle, right = -reach_m, width_m / 2, width_m + reach_m
    top, centre, bottom = -reach_m, height_m / 2, height_m + reach_m
    return {
        "low": (left, top, middle, centre),
        "mid": (middle, top, right, centre),
        "high": (left, centre, middle, bottom),
        "skyscraper": (middle, centre, right, bottom),
    }


def _plan_quarter(rng: np.random.Generator, style: District, height_class: str, bounds_m: Bounds) -> Plan:
    """A place with an avenue around it, half of it inside."""
    left, top, right, bottom = bounds_m
    half = _AVENUE_M / 2
    plan = plan_place(rng, style, height_class, (left + half, top + half, right - half, bottom - half))
    avenues = [
        (left, top, right, top + half),
        (left, bottom - half, right, bottom),
        (left, top, left + half, bottom),
        (right - half, top, right, bottom),
    ]
    quads = np.array([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, y0, x1, y1 in avenues])
    return replace(plan, roads_m=np.concatenate([plan.roads_m, quads]), bounds_m=bounds_m)
