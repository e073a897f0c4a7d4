"""What is wrong with a data set of faces, found before a training run finds it. No torch in here."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustvision.core.errors import InputError
from robustvision.core.findings import Finding, Level
from robustvision.core.runtime.images import list_images, read_image
from robustvision.core.runtime.progress import track
from robustvision.face.alignment import inspect_landmarks
from robustvision.face.data.files import identity_folders, wrong_size
from robustvision.face.data.lists import ListError, parse_list, read_landmarks
from robustvision.face.data.source import CROP_PX

MAX_OF_A_KIND = 20
"""So many findings of one kind are told one by one; the rest are counted."""


@dataclass(frozen=True)
class _Image:
    path: Path
    name: str
    label: int
    where: str


class _Findings:
    """Gathers findings and counts instead of repeating."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[Finding]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, kind: str, level: Level, where: object, what: str, advice: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= MAX_OF_A_KIND:
            self._by_kind[kind].append(Finding(level, str(where), what, advice))

    def all(self) -> list[Finding]:
        found: list[Finding] = []
        for kind, findings in self._by_kind.items():
            found += findings
            if more := self._counts[kind] - len(findings):
                last = findings[-1]
                found.append(Finding(last.level, last.where, f"{more} more after this one: {kind}", last.advice))
        return sorted(found, key=lambda finding: finding.level != "error")


def check(
    source: str | Path,
    *,
    root: str | Path | None = None,
    landmarks: str | Path | None = None,
    num_classes: int | None = None,
    quiet: bool = True,
) -> list[Finding]:
    """Read a whole data set and tell what is wrong with it.

    Args:
        source: A tree with one folder an identity, or a list.
        root: The folder to which a list's paths are relative; the list's own where None.
        landmarks: The CSV file with the landmarks of photos that are not aligned yet.
        num_classes: The number of classes that a list's labels must stay below, where one is wanted.
        quiet: No progress.

    Returns:
        The findings, errors first; an empty list for a data set without fault.

    Raises:
        InputError: The source, or the landmarks file, cannot be read at all.
    """
    source, findings = Path(source), _Findings()
    if source.is_dir():
        images = list(_folder_images(source, findings))
    else:
        images = list(_list_images(source, Path(root) if root else source.parent, num_classes, findings))
    if not images:
        findings.add("empty", "error", source, "holds no image that could be read", "add images")
    points = None if landmarks is None else read_landmarks(landmarks)
    same_bytes: dict[bytes, _Image] = {}
    for image in track(images, "checking images", quiet=quiet):
        try:
            data = image.path.read_bytes()
        except OSError as error:
            findings.add("unreadable image", "error", image.where, str(error), "make it readable, or remove it")
            continue
        _check_duplicate(image, hashlib.sha256(data).digest(), same_bytes, findings)
        _check_image(image, data, findings, points=points)
    _check_labels(images, source, findings)
    return findings.all()


def _folder_images(root: Path, findings: _Findings) -> Iterator[_Image]:
    for label, folder in enumerate(identity_folders(root)):
        try:
            paths = list_images(folder)
        except InputError:
            findings.add("empty identity", "error", folder, "the folder of this identity holds no image", "remove it")
            continue
        for path in paths:
            yield _Image(path, path.relative_to(root).as_posix(), label, str(path))


def _list_images(path: Path, root: Path, num_classes: int | None, findings: _Findings) -> Iterator[_Image]:
    lines: dict[str, int] = {}
    for entry in parse_list(path, num_classes):
        where = f"{path}:{entry.line}"
        if isinstance(entry, ListError):
            findings.add("wrong line", "error", where, entry.what, "correct the line")
        elif not (root / entry.path).is_file():
            findings.add("missing image", "error", where, f"{entry.path} is not there", "correct or remove the line")
        elif entry.path in lines:
            what = f"{entry.path} is listed already in line {lines[entry.path]}"
            findings.add("listed twice", "error", where, what, "remove one of the lines")
        else:
            lines[entry.path] = entry.line
            yield _Image(root / entry.path, entry.path.replace("\\", "/"), entry.label, where)


def _check_image(image: _Image, data: bytes, findings: _Findings, points: dict | None) -> None:
    try:
        pixels = read_image(data)
    except InputError as error:
        findings.add("unreadable image", "error", image.where, str(error), "copy it again, or remove it")
        return
    height, width = pixels.shape[:2]
    if points is None:
        if (height, width) != (CROP_PX, CROP_PX):
            what = f"{image.name} is {wrong_size(width, height)}"
            findings.add("wrong size", "error", image.where, what, "align it, or give the landmarks of the photos")
    elif image.name not in points:
        findings.add(
            "no landmarks", "error", image.where, f"{image.name} has no landmarks", "detect them, or remove it"
        )
    else:
        try:
            geometry = inspect_landmarks(points[image.name], (height, width))
        except InputError as error:
            findings.add("bad landmarks", "error", image.where, str(error), "detect them again, or remove the image")
            return
        if geometry.is_tiny:
            what = f"the eyes are only {geometry.eye_distance_px:.1f} px apart"
            findings.add("tiny face", "warning", image.where, what, "leave it out, or expect a blurred crop")
        if geometry.points_inside < 5:
            what = f"only {geometry.points_inside} of the five landmarks lie in the image"
            findings.add("cut face", "warning", image.where, what, "leave it out, or expect a crop with a black part")


def _check_duplicate(image: _Image, digest: bytes, seen: dict[bytes, _Image], findings: _Findings) -> None:
    first = seen.setdefault(digest, image)
    if first is image:
        return
    if first.label == image.label:
        what = f"the same file as {first.name}, under the same label {image.label}"
        findings.add("duplicate", "warning", image.where, what, "remove one of them")
    else:
        what = f"the same file as {first.name}, but labels {first.label} and {image.label}"
        findings.add("duplicate under two labels", "error", image.where, what, "keep the one with the right label")


def _check_labels(images: list[_Image], source: Path, findings: _Findings) -> None:
    by_label: dict[int, list[_Image]] = defaultdict(list)
    for image in images:
        by_label[image.label].append(image)
    for label, members in sorted(by_label.items()):
        if len(members) == 1:
            what = f"identity {label} has one image only: nothing pulls two of its images together"
            findings.add("one image", "warning", members[0].where, what, "add images, or leave the identity out")
    missing = max(by_label, default=-1) + 1 - len(by_label)
    if missing:
        gaps = itertools.islice((label for label in itertools.count() if label not in by_label), min(missing, 5))
        shown = ", ".join(map(str, gaps)) + (" ..." if missing > 5 else "")
        what = f"{missing} labels below the largest have no image: {shown}"
        findings.add("label gaps", "warning", source, what, "number the labels anew; empty classes waste memory")
    if len(by_label) == 1:
        findings.add("one identity", "error", source, "all images are of one identity", "add other identities")
