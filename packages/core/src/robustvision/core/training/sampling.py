"""What is random in an epoch, without a state to lose: the order of the samples, and the draws of each sample.

Everything follows from (seed, epoch, index), never from a generator that moved on while training ran. So a resumed run,
another number of workers or another number of processes sees the same samples, drawn the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler

Key = int | tuple[int, int]

# numpy fills short seeds with zeros, so default_rng(5) and default_rng([5, 0, 0]) are one stream. The tag keeps a
# sample's draws apart from those of whoever rendered the data set with the same seed.
_SAMPLE_STREAM = 0x5A3F


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator from which a data set draws the augmentation of one sample.

    Args:
        seed: The data set's seed, at least 0.
        epoch: The pass over the data, from 0.
        index: The sample's place in the data set, from 0.

    Returns:
        A new generator, the same for the same three numbers.

    Examples:
        >>> bool(sample_rng(0, 3, 7).random() == sample_rng(0, 3, 7).random())
        True
        >>> bool(sample_rng(0, 3, 7).random() == sample_rng(0, 4, 7).random())
        False
    """
    return np.random.default_rng([seed, epoch, index, _SAMPLE_STREAM])


def split_index(key: Key) -> tuple[int, int]:
    """Split what a sampler yields into epoch and index.

    Args:
        key: ``(epoch, index)`` from :class:`EpochSampler`, or a plain index, which means epoch 0.

    Returns:
        Epoch and index.

    Examples:
        >>> split_index((3, 7)), split_index(7)
        ((3, 7), (0, 7))
    """
    if isinstance(key, tuple):
        epoch, index = key
        return int(epoch), int(index)
    return 0, int(key)


class EpochSampler(DefaultSampler):
    """mmengine's sampler, yielding ``(epoch, index)``, and able to begin in the middle of an epoch.

    The order follows from seed and epoch. With several processes the samples are dealt out in turn, so step k sees the
    same samples for any number of processes at the same total batch.

    Args:
        dataset: The data set; its ``__getitem__`` takes ``(epoch, index)`` (see :func:`split_index`).
        shuffle: Whether the order is shuffled.
        seed: The seed of the order; mmengine passes the run's.
        round_up: Whether samples are repeated until every process has as many as the others.
    """

    start = 0
    """How many samples of this process the next pass leaves out; used once."""

    def __iter__(self) -> Iterator[Any]:
        start, self.start = self.start, 0
        order = list(super().__iter__())
        return iter([(self.epoch, index) for index in order[start:]])
