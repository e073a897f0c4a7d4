"""The edge half of buildings: a raster in, polygons on a map out, from an ONNX file, without torch.

A raster passes ``predict_raster`` (probabilities, strip by strip), ``vectorise`` (outlines, squared where they allow
it) and ``write_polygons`` (GeoPackage or GeoJSON). Each stage can be entered on its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.buildings.contract import TASK, Target
from robustvision.buildings.footprints import FootprintOptions, Mover, footprint_mover
from robustvision.buildings.geo import extent
from robustvision.buildings.models import shipped_model
from robustvision.buildings.outputs import is_vector, kept_probabilities, refuse_overwriting
from robustvision.buildings.polygons import BuildingPolygon, check_outlining, check_place, vectorise, write_polygons
from robustvision.buildings.polygons.frame import map_frame
from robustvision.buildings.rasters.predicting import predict_raster
from robustvision.buildings.rasters.reading import read_place
from robustvision.buildings.rasters.sweeping import BATCH_SIZE, settings_of, sweep_picture
from robustvision.core.errors import InputError, RobustVisionError
from robustvision.core.runtime.files import make_folder
from robustvision.core.runtime.parallel import run_ordered
from robustvision.core.runtime.progress import track
from robustvision.core.runtime.session import Model, open_model

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MapResult:
    """What came of a raster.

    Attributes:
        source: The raster.
        path: What was written.
        target: What it shows: roof, footprint or shape.
        buildings: How many polygons; None where probabilities alone were asked for.
        area: Of all polygons, in square ``unit``; likewise.
        unit: ``m``, or ``px`` where the raster has no place on the map.
        probability: The GeoTIFF of probabilities, if it was kept.
        tiles: Tiles that the model was run on.
        skipped_tiles: Tiles without data or outside the area of interest.
        valid_share: Share of the raster that has a result, 0 to 1.
        seconds: How long it took.
        warnings: What should be known.
    """

    source: str
    path: Path
    target: str
    buildings: int | None
    area: float | None
    unit: str
    probability: Path | None
    tiles: int
    skipped_tiles: int
    valid_share: float
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapFailure:
    """A raster, among others, of which nothing came.

    Attributes:
        source: The raster.
        error: Why.
    """

    source: str
    error: str


class BuildingMapper:
    """Maps buildings with an exported model.

    Args:
        model: The model, or its ONNX file; the small one that ships with the package where None. That was trained on
            rendered scenes alone: it shows that everything works.
        providers: onnxruntime's execution providers; the best available where None.
        threads: Threads of one call; the cores of the machine where None.
        batch_size: Tiles of one call.

    Attributes:
        model: The opened model.

    Raises:
        ModelError: The model is broken, or no model of buildings.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model | None = None,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        if not isinstance(model, Model):
            path = shipped_model() if model is None else model
            model = open_model(path, task=TASK, providers=providers, threads=threads)
        self.model = model
        self._settings = settings_of(model, batch_size=batch_size)
        self._run: dict[str, Any] = {"providers": providers, "threads": threads, "batch_size": batch_size}

    @property
    def target(self) -> Target:
        """What a positive pixel of the model shows: roof, footprint or shape."""
        return self._settings.preprocessing.target

    def probabilities(self, image: UInt8) -> Float32:
        """Return the probabilities of a picture in memory.

        Args:
            image: uint8 [H, W, 3], RGB, of any size.

        Returns:
            float32 [H, W], 0 to 1.

        Raises:
            InputError: It is no such picture.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"got {image.dtype} {image.shape}, but a picture is uint8 [H, W, 3], RGB")
        return sweep_picture(image, self.model.main, self._settings)

    def predict(
        self,
        raster: str | os.PathLike[str],
        *,
        out: str | os.PathLike[str],
        target: Target | None = None,
        footprints: FootprintOptions | None = None,
        probability: str | os.PathLike[str] | None = None,
        threshold: float = 0.5,
        min_area_m2: float = 10.0,
        opening_px: int = 0,
        simplify_m: float | None = None,
        regularise: bool = True,
        workers: int = 1,
        quiet: bool = False,
        **options: Any,
    ) -> MapResult:
        """Map the buildings of a raster.

        After a kill the same call goes on where it was.

        Args:
            raster: GeoTIFF, COG, VRT, PNG or JPEG; see `rasters.open_raster`.
            out: ``.gpkg`` or ``.geojson`` for polygons, ``.tif`` for probabilities alone.
            target: What is wanted: what the model shows (where None), or ``footprint`` from a model of roofs, which are
                then moved by their heights.
            footprints: For these: the view and the heights.
            probability: Where to keep the probabilities of polygons as well, a ``.tif``.
            threshold: As for `polygons.vectorise`, which takes the next four also.
            min_area_m2: Smaller buildings are left out.
            opening_px: Removes thin bridges.
            simplify_m: Tolerance of the outlines.
            regularise: Whether to square edges.
            workers: Processes, in every stage.
            quiet: Whether to show no progress.
            **options: Of `rasters.predict_raster`: ``aoi``, ``bands``, ``scale``, ``nodata``, ``tile_px``,
                ``stride_px``, ``blend``, ``resume``.

        Returns:
            What was written.

        Raises:
            InputError: The raster or an option cannot be used, or the target needs what was not given.
            ModelError: The model does not run.
        """
        start_s = time.perf_counter()
        out, source, shown = Path(out), os.fspath(raster), target or self.target
        has_polygons, kept = is_vector(out), kept_probabilities(out, probability)
        outlining: dict[str, Any] = {
            "threshold": threshold,
            "min_area_m2": min_area_m2,
            "opening_px": opening_px,
            "simplify_m": simplify_m,
            "workers": workers,
        }
        check_outlining(**outlining)
        move = self._mover(source, shown, has_polygons, footprints)
        heights = footprints.heights if footprints else None
        refuse_overwriting(out, (source, options.get("aoi"), heights, self.model.path))
        if has_polygons:
            transform, crs, height, width = read_place(source)
            check_place(out, crs=crs)
            map_frame(transform, crs, height, width)  # refuses pixels that have no size
        place = kept or out.with_name(f".{out.name}-probability.tif")
        settings = {**self._run, **options, "workers": workers, "quiet": quiet}
        prediction = predict_raster(source, self.model.path, place, **settings)
        total = None
        if has_polygons:
            found = vectorise(place, regularise=regularise, **outlining)
            total = _Total()
            shapes = total.watch(track(move(found), "outlining buildings", quiet=quiet))
            names = {"model_name": self.model.manifest.name, "model_hash": self.model.sha256}
            write_polygons(shapes, out, crs=prediction.crs_wkt, target=shown, **names)
            if kept is None:
                place.unlink()
        return MapResult(
            source=source,
            path=out,
            target=shown,
            buildings=total.count if total else None,
            area=total.area if total else None,
            unit="px" if prediction.crs_wkt is None else "m",
            probability=kept,
            tiles=prediction.tiles,
            skipped_tiles=prediction.skipped_tiles,
            valid_share=prediction.valid_share,
            seconds=time.perf_counter() - start_s,
            warnings=prediction.warnings,
        )

    def predict_many(
        self,
        rasters: Sequence[str | os.PathLike[str]],
        out_folder: str | os.PathLike[str],
        *,
        suffix: str = ".gpkg",
        workers: int = 1,
        quiet: bool = False,
        **options: Any,
    ) -> list[MapResult | MapFailure]:
        """Map many rasters, each by one process. One that fails takes no other with it.

        Args:
            rasters: The rasters.
            out_folder: Where the results go, under the names of the rasters; made if it is not there.
            suffix: Their form: ``.gpkg``, ``.geojson`` or ``.tif``.
            workers: Rasters at a time.
            quiet: Whether to show no progress.
            **options: Of `predict`.

        Returns:
            What came of each, in order.

        Raises:
            InputError: There is no raster, two would write the same file, or ``suffix`` is no form.
        """
        if options.get("probability") is not None:
            raise InputError(
                f"{options['probability']} cannot keep the probabilities of {len(rasters)} rasters: map them one by one"
            )
        folder = make_folder(out_folder)
        outputs = [folder / f"{Path(raster).stem}{suffix}" for raster in rasters]
        twice = sorted({out.name for out in outputs if outputs.count(out) > 1})
        if twice or not outputs:
            raise InputError(f"several rasters would become {twice[0]}: rename one" if twice else "no raster is given")
        is_vector(outputs[0])
        one = partial(_map_or_tell, model=str(self.model.path), run=self._run, options=options)
        pairs = [(os.fspath(raster), out) for raster, out in zip(rasters, outputs, strict=True)]
        return run_ordered(one, pairs, workers=workers, label="mapping rasters", quiet=quiet)

    def _mover(self, source: str, target: Target, has_polygons: bool, footprints: FootprintOptions | None) -> Mover:
        """What turns the outlines that the model gives into the wanted ones, checked before anything is run."""
        if target == self.target:
            if footprints is not None:
                raise InputError(
                    f"{target} is what the model shows, so view and heights move nothing: ask for target footprint "
                    "from a model of roofs, or leave them out"
                )
            return lambda shapes: shapes
        if (self.target, target) != ("roof", "footprint"):
            raise InputError(f"the model shows {self.target}, which cannot be turned into {target}: take another model")
        if not has_polygons:
            raise InputError("roofs are moved to footprints as polygons: name a .gpkg or .geojson file")
        transform, crs, height, width = read_place(source)
        outline = extent(transform, height, width)
        return footprint_mover(footprints or FootprintOptions(), source, crs.to_wkt() if crs else None, outline)


@dataclass
class _Total:
    """Count and area of the buildings that passed."""

    count: int = 0
    area: float = 0.0

    def watch(self, buildings: Iterable[BuildingPolygon]) -> Iterator[BuildingPolygon]:
        for building in buildings:
            self.count += 1
            self.area += building.area
            yield building


def _map_or_tell(
    pair: tuple[str, Path], model: str, run: dict[str, Any], options: dict[str, Any]
) -> MapResult | MapFailure:
    try:
        return BuildingMapper(model, **run).predict(pair[0], out=pair[1], quiet=True, **options)
    except RobustVisionError as error:
        return MapFailure(pair[0], str(error))
