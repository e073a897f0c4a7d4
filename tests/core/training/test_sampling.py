"""The order of the samples and the draws of each: functions of seed, epoch and index, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustvision.core.training import EpochSampler, sample_rng, split_index


def order(sampler, epoch=0, start=0):
    sampler.set_epoch(epoch)
    sampler.start = start
    return list(sampler)


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 40))
def test_a_late_start_is_the_rest_of_the_epoch(size, epoch, start):
    sampler = EpochSampler(range(size), seed=3)
    whole = order(sampler, epoch)
    assert sorted(whole) == [(epoch, index) for index in range(size)]
    assert order(sampler, epoch, start) == whole[start:]
    assert list(sampler) == whole  # a start is used once
    assert len(sampler) == size


def test_orders_differ_between_epochs_and_seeds():
    orders = [order(EpochSampler(range(50), seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    orders[1] = [(0, index) for _, index in orders[1]]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert order(EpochSampler(range(4), shuffle=False, seed=0)) == [(0, 0), (0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_do_not_depend_on_workers(toy, workers):
    data = toy.Squares(12)
    loader = torch.utils.data.DataLoader(data, sampler=EpochSampler(data, seed=0), batch_size=4, num_workers=workers)
    loader.sampler.set_epoch(2)
    for batch in loader:
        for image, index in zip(batch["image"], batch["index"], strict=True):
            noise = sample_rng(0, 2, int(index)).standard_normal((3, 8, 8)).astype(np.float32)
            assert torch.equal(image, torch.from_numpy(data.patterns[int(index) % 4] + 0.5 * noise))


def test_draws_are_distinct():
    """One stream for each (seed, epoch, index), and none of them the plain generator of a seed.

    numpy pads seeds with zeros: default_rng(5) and default_rng([5, 0, 0]) are one stream.
    """
    keys = [(seed, epoch, index) for seed in range(3) for epoch in range(3) for index in range(50)]
    first = {sample_rng(*key).random() for key in keys} | {np.random.default_rng(seed).random() for seed in range(3)}
    assert len(first) == len(keys) + 3


def test_draws_of_neighbours_are_independent():
    draws = np.array([[sample_rng(0, epoch, index).standard_normal() for index in range(300)] for epoch in range(8)])
    correlations = np.corrcoef(draws)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(300)
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="non-negative"):
        sample_rng(-1, 0, 0)


def test_split_index():
    assert split_index((4, np.int64(2))) == (4, 2)
    assert split_index(np.int64(2)) == (0, 2)
