"""Data sets over others: what each key leads to."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.utils.data import DataLoader

from robustvision.core.data import Mixed, Paired, Repeated
from robustvision.core.errors import InputError
from robustvision.core.training import EpochSampler


class Keys:
    """Each sample is the key it was asked for by."""

    def __init__(self, size: int, name: str = "") -> None:
        self.size, self.name = size, name

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key):
        epoch, index = key
        assert 0 <= index < self.size
        return (self.name, epoch, index)

    def fingerprint(self) -> str:
        return f"keys-{self.size}"


@pytest.mark.parametrize(("size", "length"), [(3, 6), (3, 7), (7, 3), (5, 5), (1, 4)])
def test_repeated_shows_each_sample_equally_often_and_never_the_same_twice(size, length):
    repeated = Repeated(Keys(size), length, seed=2)
    assert len(repeated) == length
    seen = [repeated[epoch, index] for epoch in range(size) for index in range(length)]
    assert len(set(seen)) == len(seen)
    assert set(Counter(index for _, _, index in seen).values()) == {length}


def test_short_epochs_draw_from_all_of_a_sorted_data_set():
    """Without an order of its own, the first epoch would show the first 20 of 1000 samples."""
    seen = [Repeated(Keys(1000), 20)[0, index][2] for index in range(20)]
    assert max(seen) > 800
    assert min(seen) < 200


def test_orders_follow_from_the_seed():
    one, same, other = ([Repeated(Keys(50), 50, seed)[0, index] for index in range(50)] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_through_sampler_and_loader():
    dataset = Paired({"noisy": Repeated(Mixed([Keys(3, "a"), Keys(2, "b")]), 8), "clean": Repeated(Keys(2, "c"), 8)})
    sampler = EpochSampler(dataset, shuffle=True, seed=0)
    sampler.set_epoch(1)
    batches = list(DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=list))
    assert [len(batch) for batch in batches] == [4, 4]
    noisy = [sample["noisy"] for batch in batches for sample in batch]
    clean = Counter(sample["clean"][2] for batch in batches for sample in batch)
    assert len(set(noisy)) == 8
    assert {epoch for _, epoch, _ in noisy} == {1, 2, 3}  # samples 8 to 15 of passes of five
    assert clean == {0: 4, 1: 4}


def test_plain_indices_mean_epoch_zero():
    assert Mixed([Keys(1, "a"), Keys(2, "b")])[2] == ("b", 0, 1)
    assert Repeated(Keys(1), 2)[1] == ("", 1, 0)


def test_fingerprints_change_with_all_that_matters():
    prints = {
        Repeated(Keys(3), 6).fingerprint(),
        Repeated(Keys(3), 6, seed=1).fingerprint(),
        Repeated(Keys(3), 7).fingerprint(),
        Repeated(Keys(4), 6).fingerprint(),
        Mixed([Keys(3), Keys(4)]).fingerprint(),
        Mixed([Keys(4), Keys(3)]).fingerprint(),
        Paired({"a": Keys(3)}).fingerprint(),
        Paired({"b": Keys(3)}).fingerprint(),
        Mixed([[1, 2]]).fingerprint(),
    }
    assert len(prints) == 9


@pytest.mark.parametrize("build", [lambda: Repeated(Keys(0), 3), lambda: Repeated(Keys(3), 0), lambda: Mixed([])])
def test_empty_is_refused(build):
    with pytest.raises(InputError, match="at least one"):
        build()


@pytest.mark.parametrize("parts", [{"a": Keys(2), "b": Keys(3)}, {}])
def test_pairs_need_equal_lengths(parts):
    with pytest.raises(InputError, match="equal lengths"):
        Paired(parts)


@pytest.mark.parametrize("dataset", [Mixed([Keys(2), Keys(3)]), Repeated(Keys(2), 5)])
@pytest.mark.parametrize("index", [5, -1])
def test_outside_ends_iteration(dataset, index):
    with pytest.raises(IndexError):
        dataset[0, index]
