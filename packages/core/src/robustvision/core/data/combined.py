"""Data sets made of others: a small one repeated, several one after another, several side by side.

All take ``(epoch, index)``, the keys of :class:`robustvision.core.training.EpochSampler`, which torch's
``ConcatDataset`` does not, and hand them on, so that augmentation stays stateless.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from robustvision.core.errors import InputError
from robustvision.core.training.sampling import Key, split_index

# apart from a sampler's order and a sample's draws with the same seed
_ORDER_STREAM = 0x0E9A


class Repeated:
    """A data set of a fixed length over one of any length: an epoch is as long as wanted.

    The passes over the inner data set go on from epoch to epoch, each in an order of its own: all samples are seen
    equally often, also where an epoch is shorter than the data. The inner data set gets ``(pass, index)``, so every
    repetition of a sample is augmented anew.

    Args:
        dataset: The inner data set.
        length: Samples of an epoch.
        seed: The seed of the orders.

    Raises:
        InputError: The data set is empty, or ``length`` is below 1.
    """

    def __init__(self, dataset: Any, length: int, seed: int = 0) -> None:
        if len(dataset) == 0 or length < 1:
            raise InputError(f"{len(dataset)} samples repeated to {length}: expected at least one of both")
        self.dataset, self.length, self.seed = dataset, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Key) -> Any:
        epoch, index = split_index(key)
        if not 0 <= index < self.length:
            raise IndexError(f"index {index}: this data set has {self.length} samples")
        passes, place = divmod(epoch * self.length + index, len(self.dataset))
        return self.dataset[passes, int(_order(self.seed, passes, len(self.dataset))[place])]

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return f"repeated({_fingerprint(self.dataset)}, {self.length}, {self.seed})"


class Mixed:
    """Several data sets one after another.

    Args:
        datasets: The data sets; their samples have the same form.

    Raises:
        InputError: There is none.

    Examples:
        >>> mixed = Mixed([{(0, 0): "a"}, {(0, 0): "b", (0, 1): "c"}])
        >>> [mixed[0, index] for index in range(3)]
        ['a', 'b', 'c']
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        if not datasets:
            raise InputError("no data sets to mix: pass at least one")
        self.datasets = list(datasets)
        self.ends = list(accumulate(len(dataset) for dataset in self.datasets))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: Key) -> Any:
        epoch, index = split_index(key)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index}: this data set has {len(self)} samples")
        number = bisect_right(self.ends, index)
        return self.datasets[number][epoch, index - (self.ends[number - 1] if number else 0)]

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return f"mixed({', '.join(_fingerprint(dataset) for dataset in self.datasets)})"


class Paired:
    """Several data sets side by side: sample i holds sample i of each.

    Args:
        datasets: The data sets by name, of one length; see :class:`Repeated`.

    Raises:
        InputError: There is none, or the lengths differ.

    Examples:
        >>> Paired({"noisy": {(0, 0): "a"}, "clean": {(0, 0): "b"}})[0, 0]
        {'noisy': 'a', 'clean': 'b'}
    """

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        lengths = {name: len(dataset) for name, dataset in datasets.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"data sets of {lengths} samples: a pair needs equal lengths, see Repeated")
        self.datasets = dict(datasets)

    def __len__(self) -> int:
        return len(next(iter(self.datasets.values())))

    def __getitem__(self, key: Key) -> dict[str, Any]:
        place = split_index(key)
        return {name: dataset[place] for name, dataset in self.datasets.items()}

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return f"paired({', '.join(f'{name}={_fingerprint(one)}' for name, one in self.datasets.items())})"


@functools.lru_cache(maxsize=8)
def _order(seed: int, passes: int, size: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, passes, size, _ORDER_STREAM]).permutation(size)


def _fingerprint(dataset: Any) -> str:
    fingerprint = getattr(dataset, "fingerprint", None)
    return str(fingerprint()) if callable(fingerprint) else f"{len(dataset)} samples"
