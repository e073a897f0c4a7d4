"""Any data set by the name of its layout: `read_tiles` lists its tiles, `load_tiles` reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from robustvision.buildings.contract import Target
from robustvision.buildings.data.bonai import bonai_parts, read_bonai
from robustvision.buildings.data.coco import read_coco
from robustvision.buildings.data.folders import part_folders, read_folder, read_inria, read_massachusetts, read_whu
from robustvision.buildings.data.maps import read_labelled, read_spacenet4
from robustvision.buildings.data.pictures import Grid, Picture, Scale, find_scale, tile_sources
from robustvision.buildings.data.splits import Part
from robustvision.buildings.data.tile import Tile, TileSource
from robustvision.core.errors import InputError
from robustvision.core.runtime.parallel import run_ordered

READERS: dict[str, Callable[[str | Path, Part | None], list[Picture]]] = {
    "whu": read_whu,
    "inria": read_inria,
    "massachusetts": read_massachusetts,
    "spacenet4": lambda root, part: read_spacenet4(root),
    "bonai": read_bonai,
    "coco": read_coco,
    "folder": read_folder,
}
"""Readers by the name of the layout. "images", a folder of images with labels elsewhere, is known to `read_tiles`."""

INVERTED = 0.95
"""So large a share of building means that the mask's background was taken for it."""
_SERIAL = 64  # tiles; starting processes takes longer than reading so few


def read_tiles(
    kind: str,
    root: str | Path,
    *,
    part: Part | None = None,
    labels: str | Path | None = None,
    tile_px: int | None = None,
    stride_px: int | None = None,
    target: Target = "roof",
    bands: Sequence[int] | None = None,
    scale: Scale | None = None,
    building: int | None = None,
    layer: str | None = None,
) -> list[TileSource]:
    """List the tiles of a data set; no pixel is read, but for a scale that has to be found.

    Args:
        kind: A name in ``READERS``, or "images".
        root: Its folder.
        part: "train", "validation" or "test", of a set that has parts; None for all.
        labels: For kind "images": a vector file, or a folder of masks.
        tile_px: Side of the tiles; None for whole pictures.
        stride_px: Step between tiles; ``tile_px`` where None.
        target: What counts as building. BONAI draws what is asked for; SpaceNet 4 has footprints only; elsewhere the
            labels show what they show, and it is for the user to say what that is.
        bands: Red, green and blue, or grey, from 1; see ``open_raster``.
        scale: The values that become 0 and 255, for images that do not hold 8 bits; found on all parts of the set
            where None. Tiles carry it, for it belongs to the model.
        building: The value of masks that means building; see ``read_mask``.
        layer: Of a vector file with several.

    Returns:
        One source a window.

    Raises:
        InputError: An unknown kind, an option that does not fit it, or what its reader refuses.
    """
    if kind != "images" and kind not in READERS:
        raise InputError(f"data set {kind!r} is not known; choose {', '.join((*READERS, 'images'))}")
    if (kind == "images") != (labels is not None):
        raise InputError(f"kind {kind} with labels {labels}: kind images needs labels, and no other takes them")
    if kind == "spacenet4" and target != "footprint":
        raise InputError(f"target is {target}, but SpaceNet 4 has footprints only: pass target footprint")

    def pictures(part: Part | None) -> list[Picture]:
        if labels is not None:
            return read_labelled(root, labels, layer=layer, building=building)
        if kind == "bonai":
            return read_bonai(root, part, target=target)
        if kind == "folder":
            return read_folder(root, part, building=building)
        return READERS[kind](root, part)

    if part is not None and kind in ("images", "spacenet4"):
        raise InputError(f"kind {kind} has no parts of its own, so no {part}: split its tiles with block_split")
    listed = pictures(part)
    if scale is None and any(picture.form.dtype != "uint8" for picture in listed):
        scale = find_scale([picture.path for picture in (listed if part is None else pictures(None))], bands=bands)
    return tile_sources(listed, Grid(tile_px, stride_px), bands=bands, scale=scale)


def own_parts(kind: str, root: str | Path) -> tuple[Part, ...]:
    """Return the parts that a data set comes in; empty where it has none, and is to be split by place.

    Args:
        kind: A name in ``READERS``, or "images".
        root: Its folder.
    """
    if kind == "inria":
        return "train", "validation"
    if kind == "bonai":
        return bonai_parts(root) or ("train", "test")  # where there is none, its reader says what it looked for
    return tuple(part_folders(Path(root))) if kind in ("whu", "massachusetts", "folder", "coco") else ()


def choose_sources(
    data: Path | None, kind: str | None, images: Path | None, labels: Path | None, *, target: Target | None = None
) -> dict[str, list[TileSource]]:
    """List whole pictures, by part, as the command line names them.

    Args:
        data: The root of a data set.
        kind: Its layout.
        images: Instead of it: a folder of images.
        labels: Their labels.
        target: What counts as building; None for roofs, and for SpaceNet 4 what it has, footprints.

    Returns:
        Tiles by part; one part "all" where the set has none.

    Raises:
        InputError: Both or neither are given, or by halves, or what `read_tiles` refuses.
    """
    if data is not None and kind is not None and images is None and labels is None:
        root, parts = data, own_parts(kind, data)
    elif data is None and kind is None and images is not None and labels is not None:
        kind, root, parts = "images", images, ()
    else:
        raise InputError("give --data with --kind, its layout, or --images with --labels")
    target = target or ("footprint" if kind == "spacenet4" else "roof")
    if not parts:
        return {"all": read_tiles(kind, root, labels=labels, target=target)}
    return {part: read_tiles(kind, root, part=part, target=target) for part in parts}


def load_tiles(sources: Sequence[TileSource], *, workers: int | None = None, quiet: bool = False) -> list[Tile]:
    """Read tiles into memory.

    Args:
        sources: Which.
        workers: Processes that read; as many as there are processors where None.
        quiet: No progress.

    Returns:
        The tiles, in order.

    Raises:
        InputError: There are none, one cannot be read, or the labels are inverted: more than 95 % of all valid pixels
            are building.
    """
    if not sources:
        raise InputError("there are no tiles to read: give a data set that holds some")
    backend = "serial" if len(sources) < _SERIAL else "process"
    tiles = run_ordered(_read, sources, workers=workers, backend=backend, label="reading tiles", quiet=quiet)  # type: ignore[arg-type]
    refuse_inverted(tiles)
    return tiles


def refuse_inverted(tiles: Sequence[Tile]) -> None:
    """Refuse labels that mean the opposite.

    Args:
        tiles: All tiles of a part.

    Raises:
        InputError: More than 95 % of their valid pixels are building.
    """
    valid = [tile.label.size if tile.valid is None else int(tile.valid.sum()) for tile in tiles]
    positive = [int((tile.label if tile.valid is None else tile.label[tile.valid]).sum()) for tile in tiles]
    share = sum(positive) / max(sum(valid), 1)
    if share > INVERTED:
        worst = tiles[int(np.argmax(positive))]
        raise InputError(
            f"{share:.1%} of the pixels of {len(tiles)} tiles ({worst.name}, ...) are labelled building: the masks are "
            "inverted, or hold another value for building: turn them round, or pass building, the value that means it"
        )


def _read(source: TileSource) -> Tile:
    return source.read()
