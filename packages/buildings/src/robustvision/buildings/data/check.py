"""What spoils training on a data set, found before it costs a run: one pass over all tiles, one function a check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from robustvision.buildings.data.duplicates import Signature, find_duplicates, signature
from robustvision.buildings.data.label_shift import LabelShift, best_shift, match_map
from robustvision.buildings.data.readers import INVERTED
from robustvision.buildings.data.tile import Tile, TileSource
from robustvision.core.errors import InputError
from robustvision.core.findings import Finding
from robustvision.core.runtime.progress import track

SHOWN = 5
"""Of findings of one kind on single tiles, so many are listed."""
EMPTY_SHARE = 0.9
NODATA_SHARE = 0.5
GSD_TOLERANCE = 0.1
GSD_SPREAD = 1.5
SHIFT_PX, SHIFT_SCORE, SHIFT_GAIN, SHIFT_SHARE = 3.0, 4.0, 0.2, 1 / 3
"""A scene's label is beside the image from so many px on, if the match stands out and improves so much; so large a
share of scenes makes a finding. Measured on 12 rendered scenes each of 128 and 256 px: true roofs 0 to 17 % of the
scenes, footprints of buildings 12 to 90 m high, seen at 10 to 20 deg, 67 to 92 %."""


@dataclass
class PartFacts:
    """What one pass over a part collects.

    Attributes:
        name: The part's.
        sizes: Height and width of each tile.
        positive: Share of building in each tile, of its valid pixels.
        valid: Share of valid pixels of each tile.
        gsd_m: Ground sampling distances that are known.
        names: Names of the tiles.
        signatures: To find duplicates.
        matches: For each scene, the sum of its tiles' ``match_map``.
        errors: Tiles that could not be read, and why.
    """

    name: str
    sizes: list[tuple[int, int]] = field(default_factory=list)
    positive: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    gsd_m: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)
    matches: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def add(self, tile: Tile) -> None:
        """Look at one tile."""
        inside = tile.label if tile.valid is None else tile.label[tile.valid]
        self.names.append(tile.name)
        self.sizes.append((tile.label.shape[0], tile.label.shape[1]))
        self.positive.append(float(inside.mean()) if inside.size else 0.0)
        self.valid.append(inside.size / tile.label.size)
        if tile.gsd_m is not None:
            self.gsd_m.append(tile.gsd_m)
        self.signatures.append(signature(tile))
        match = match_map(tile)
        if match is not None:
            scene = tile.group or tile.name
            self.matches[scene] = self.matches.get(scene, 0.0) + match


def check_dataset(
    sources: Mapping[str, Sequence[TileSource]] | Sequence[TileSource],
    *,
    gsd_m: float | None = None,
    quiet: bool = False,
) -> list[Finding]:
    """Say what is wrong with a labelled data set.

    Looked for are files that cannot be read, inverted and empty labels, missing data, sizes and ground sampling
    distances that differ, labels beside what the image shows, and pictures that are in two parts.

    Args:
        sources: Tiles by part, or the tiles of one.
        gsd_m: The ground sampling distance that is said of the set, to compare with that of the files on the ground.
        quiet: No progress.

    Returns:
        The findings, errors first; an empty list for a set without fault.

    Raises:
        InputError: There are no tiles.
    """
    parts = sources if isinstance(sources, Mapping) else {"all": sources}
    if not any(parts.values()):
        raise InputError("there are no tiles to check: give a data set that holds some")
    facts = [_look(name, tiles, quiet) for name, tiles in parts.items()]
    findings = [finding for part in facts for finding in _check_part(part, gsd_m)]
    findings += [
        finding
        for place, second in enumerate(facts)
        for first in facts[:place]
        for finding in _check_duplicates(first, second)
    ]
    return sorted(findings, key=lambda finding: finding.level != "error")


def _look(name: str, sources: Sequence[TileSource], quiet: bool) -> PartFacts:
    facts = PartFacts(name)
    for source in track(sources, f"checking {name}", quiet=quiet):
        try:
            facts.add(source.read())
        except InputError as error:
            facts.errors.append((source.name, str(error)))
    return facts


def _check_part(facts: PartFacts, gsd_m: float | None) -> Iterator[Finding]:
    yield from _check_reading(facts)
    if facts.names:
        yield from _check_labels(facts)
        yield from _check_forms(facts)
        yield from _check_gsd(facts, gsd_m)
        yield from _check_shift(facts)


def _check_reading(facts: PartFacts) -> Iterator[Finding]:
    for name, what in facts.errors[:SHOWN]:
        yield Finding("error", f"{facts.name}: {name}", what, "mend the file, or take it out")
    if len(facts.errors) > SHOWN:
        what = f"{len(facts.errors) - SHOWN} more tiles cannot be read"
        yield Finding("error", facts.name, what, "mend the files, or take them out")


def _check_labels(facts: PartFacts) -> Iterator[Finding]:
    positive, valid = np.array(facts.positive), np.array(facts.valid)
    share = float((positive * valid).sum() / max(valid.sum(), 1e-12))
    advice = "turn the masks round, or name the value that means building"
    if share > INVERTED:
        yield Finding("error", facts.name, f"{share:.1%} of all pixels are building: the masks are inverted", advice)
    elif (full := np.flatnonzero(positive > INVERTED)).size:
        what = f"more than {INVERTED:.0%} is building in {full.size} of {len(positive)} tiles: {_list(facts, full)}"
        yield Finding("warning", facts.name, what, f"look at them; if they are no large roofs: {advice}")
    if not positive.any():
        what = f"none of the {len(positive)} labels holds a building"
        advice = "check that images and labels belong together, and their coordinate systems"
        yield Finding("error", facts.name, what, advice)
    elif (empty := (positive == 0).mean()) > EMPTY_SHARE:
        what = f"{empty:.0%} of the tiles hold no building"
        yield Finding(
            "warning", facts.name, what, "take most of them out: they teach little, and make image means too good"
        )


def _check_forms(facts: PartFacts) -> Iterator[Finding]:
    sizes = sorted(set(facts.sizes))
    if len(sizes) > 1:
        (height, width), (most_height, most_width) = sizes[0], sizes[-1]
        what = f"tiles are of {len(sizes)} sizes, from {width} x {height} to {most_width} x {most_height} px"
        yield Finding("warning", facts.name, what, "pass tile_px, to cut all to one")
    thin = np.flatnonzero(np.array(facts.valid) < NODATA_SHARE)
    if thin.size:
        what = f"more than half of {thin.size} tiles has no data: {_list(facts, thin)}"
        yield Finding("warning", facts.name, what, "cut the images to where there is data")


def _check_gsd(facts: PartFacts, stated_m: float | None) -> Iterator[Finding]:
    if not facts.gsd_m:
        return
    least, middle, most = np.quantile(facts.gsd_m, (0, 0.5, 1))
    if stated_m is not None and abs(middle / stated_m - 1) > GSD_TOLERANCE:
        what = f"pixels are {middle:.3g} m on the ground, not {stated_m:.3g} m"
        advice = "take the true one: a web map's pixels shrink by the cosine of the latitude"
        yield Finding("warning", facts.name, what, advice)
    if most / least > GSD_SPREAD:
        what = f"pixels are {least:.3g} to {most:.3g} m on the ground: buildings lean by different numbers of px"
        yield Finding("warning", facts.name, what, "resample to one ground sampling distance, or train one model each")


def _check_shift(facts: PartFacts) -> Iterator[Finding]:
    shifts = [best_shift(match) for match in facts.matches.values()]
    beside = [shift for shift in shifts if _is_beside(shift)]
    if beside and len(beside) >= SHIFT_SHARE * len(shifts):
        length = np.median([shift.length_px for shift in beside])
        what = f"in {len(beside)} of {len(shifts)} scenes labels fit the image better when moved, by {length:.0f} px"
        advice = (
            "footprints under leaning roofs: label a few tiles anew and adapt to them, or move "
            "the labels; if all are moved alike, mend the georeference"
        )
        yield Finding("warning", facts.name, what, advice)


def _is_beside(shift: LabelShift) -> bool:
    return shift.length_px >= SHIFT_PX and shift.score >= SHIFT_SCORE and shift.gain >= SHIFT_GAIN


def _check_duplicates(first: PartFacts, second: PartFacts) -> Iterator[Finding]:
    found = find_duplicates(first.signatures, second.signatures)
    if found:
        exact = sum(one.exact for one in found)
        shown = ", ".join(f"{one.second} is {one.first}" for one in found[:SHOWN])
        what = f"{len(found)} of {len(second.names)} tiles are in {first.name} too, {exact} pixel by pixel: {shown}"
        advice = "take them out of one part: what was trained on is no test"
        yield Finding("error", second.name, what, advice)


def _list(facts: PartFacts, places: npt.NDArray[np.int64]) -> str:
    return ", ".join(facts.names[place] for place in places[:SHOWN].tolist()) + (", ..." if places.size > SHOWN else "")
