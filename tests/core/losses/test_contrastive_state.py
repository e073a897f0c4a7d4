"""What the contrastive losses remember: resumed, shared between processes, and safe from bad batches."""

import importlib
import io
import math
import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

from robustvision.core.errors import InputError
from robustvision.core.losses import BimodalISogCLRLoss, BimodalSogCLRLoss, ISogCLRLoss, SogCLRLoss

N = 12
ALL = [ISogCLRLoss, SogCLRLoss, BimodalISogCLRLoss, BimodalSogCLRLoss]


def pair(batch=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(batch, 6, generator=generator)
    return first, first + 0.4 * torch.randn(batch, 6, generator=generator)


def ids(seed, batch=5):
    return torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:batch]


def step(loss, seed):
    first, second = pair(seed=seed)
    first.requires_grad_()
    value = loss(first, second, index=ids(seed))
    value.backward()
    return value.detach(), first.grad


@pytest.fixture(scope="module")
def processes():
    """The module ``contrastive_processes.py``, importable by its name, also in other processes."""
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module("contrastive_processes")


@pytest.mark.parametrize("kind", ALL)
def test_resuming_is_exact(kind):
    """Defect (e): the state is in the state dict, in float32, and all of it."""
    whole = kind(N)
    for seed in range(3):
        step(whole, seed)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = kind(N)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        for left, right in zip(step(whole, seed), step(resumed, seed), strict=True):
            assert torch.equal(left, right)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    fresh = kind(N)
    assert not torch.equal(step(fresh, 5)[1], step(whole, 5)[1])


@pytest.mark.parametrize("kind", ["unimodal", "bimodal"])
@pytest.mark.parametrize("first_part", [4, 6])
def test_two_processes_are_one(processes, tmp_path, kind, first_part):
    """Values, weights and the state of every sample; one process has fewer samples than the other, down to one."""
    parts = [slice(0, first_part), slice(first_part, 7)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustvision.core.losses.contrastive", "torch.distributed"])
    workers = [context.Process(target=processes.train_one_of, args=(rank, kind, parts, tmp_path)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    one = processes.train(kind, [slice(0, 7)], 0)
    left, right = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in left["state"].items():
        assert torch.equal(value, right["state"][name]), name
        torch.testing.assert_close(value, one["state"][name], rtol=1e-5, atol=1e-6)
    for found in (left, right):
        assert found["values"] == pytest.approx(one["values"], rel=1e-5)
        torch.testing.assert_close(found["network"], one["network"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_an_index_is_required(kind):
    """Defect (f)."""
    with pytest.raises(InputError, match="came without index"):
        kind(N)(*pair())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 1, 2, 3, N]), f"index holds 0 to {N}.*samples 0 to {N - 1}"),
        (torch.tensor([0, 1, -1, 3, 4]), "index holds -1 to 4"),
        (torch.arange(4), "one whole number for each of 5"),
        (torch.arange(5.0), "index is torch.float32"),
    ],
)
def test_places_out_of_range_change_nothing(kind, index, message):
    loss = kind(N)
    with pytest.raises(InputError, match=message):
        loss(*pair(), index=index)
    assert not any(value.any() for name, value in loss.state_dict().items() if "visited" in name)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_features_that_are_not_finite_do_not_poison_the_state(kind, poison):
    """The loss says NaN; nothing is stored of an anchor that is broken or has the broken one as a negative."""
    loss = kind(N)
    step(loss, 0)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    first, second = pair(seed=1)
    first[2, 3] = poison
    assert loss(first, second, index=ids(1)).isnan()
    bimodal = kind in (BimodalISogCLRLoss, BimodalSogCLRLoss)
    for name, value in loss.state_dict().items():
        # a sound picture does not meet the broken picture, only sound texts: it alone has learned something
        touched = ids(1)[[0, 1, 3, 4]] if bimodal and name.startswith("first") else []
        untouched = torch.ones(N, dtype=torch.bool)
        untouched[touched] = False
        assert torch.equal(value[untouched], before[name][untouched]), name
        assert value.isfinite().all()
    assert step(loss, 2)[0].isfinite()


def test_of_a_sample_that_is_there_twice_the_mean_is_stored():
    first, second = pair(4)
    apart = SogCLRLoss(N)
    apart(first, second, index=torch.tensor([0, 1, 2, 3]))
    twice = SogCLRLoss(N)
    twice(first, second, index=torch.tensor([0, 1, 2, 0]))
    both = apart.state.log_s[[0, 3]]
    assert twice.state.log_s[0].item() == pytest.approx(both.mean().item(), rel=1e-6)
    assert both[0] != both[1]
    torch.testing.assert_close(twice.state.log_s[1:3], apart.state.log_s[1:3])
    assert twice.state.visited.tolist() == [True] * 3 + [False] * (N - 3)


@pytest.mark.parametrize("kind", ALL)
def test_eval_stores_nothing(kind):
    loss = kind(N)
    step(loss, 0)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss.eval()
    found = loss(*pair(seed=1), index=ids(1))
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(loss.train()(*pair(seed=1), index=ids(1)), found)


@pytest.mark.parametrize("kind", [SogCLRLoss, BimodalSogCLRLoss])
def test_a_fixed_temperature_stays(kind):
    loss = kind(N, 0.2)
    for seed in range(4):
        step(loss, seed)
    for name, value in loss.state_dict().items():
        if name.endswith("tau"):
            assert torch.equal(value, torch.full((N,), 0.2))
        if name.endswith("log_s"):
            assert value.any()


def test_temperatures_stay_in_their_interval_and_reach_both_ends():
    """Rho far above what 8 negatives can give drives tau down, rho 0 drives it up; the features stand still.

    With small steps: s is an average over older temperatures, and large ones make tau swing (see the docs).
    """
    ends = []
    for rho in (6.0, 0.0):
        loss = ISogCLRLoss(5, 0.1, 0.05, 0.3, rho=rho, eta=0.005)
        for _ in range(400):
            loss(*pair(), index=torch.arange(5))
            assert loss.state.tau.min() >= 0.05 - 1e-8
            assert loss.state.tau.max() <= 0.3 + 1e-7
        ends.append(loss.state.tau)
    assert ends[0].tolist() == pytest.approx([0.05] * 5)
    assert ends[1].tolist() == pytest.approx([0.3] * 5)


def test_the_gradient_of_a_temperature_is_clipped():
    """Nothing but rho pulls where all negatives are alike: rho 6 is cut to 3, and u is beta times that."""
    for clip, expected in ((3.0, 1.5), (None, 3.0)):
        loss = ISogCLRLoss(4, rho=6.0, grad_clip=clip)
        loss(torch.eye(4), torch.eye(4), index=torch.arange(4))
        assert loss.state.u.tolist() == pytest.approx([expected] * 4)


def test_state_for_tells_what_is_remembered():
    loss, bimodal = ISogCLRLoss(N), BimodalISogCLRLoss(N)
    loss(torch.eye(4), torch.eye(4), index=torch.arange(4))
    bimodal(torch.eye(4), torch.eye(4), index=torch.arange(4))
    found = loss.state_for(torch.tensor([3, 11]))
    assert found["tau"].tolist() == pytest.approx([0.094, 0.1])
    assert set(found) == {"tau", "u", "log_s"}
    pictures, texts = bimodal.state_for(torch.tensor([3, 11]))
    assert pictures["log_s"].tolist() == pytest.approx([-100.0, 0.0], rel=1e-5) == texts["log_s"].tolist()
    with pytest.raises(InputError, match="index holds 12 to 12"):
        loss.state_for(torch.tensor([12]))


def test_s_halves_towards_what_the_batch_says():
    """By hand: s is 1 after orthogonal samples; then all are one point, g = e^(1/0.1): s = 0.2 + 0.8 e^10."""
    loss = SogCLRLoss(4, 0.1)
    loss(torch.eye(4), torch.eye(4), index=torch.arange(4))
    assert loss.state.log_s.tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    loss(torch.ones(4, 4), torch.ones(4, 4), index=torch.arange(4))
    assert loss.state.log_s.tolist() == pytest.approx([math.log(0.2 + 0.8 * math.exp(10))] * 4, rel=1e-6)


@pytest.mark.parametrize("kind", [ISogCLRLoss, BimodalISogCLRLoss])
def test_compiles_without_a_break_and_remembers_the_same(kind):
    loss, plain = kind(N), kind(N)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    for seed in range(3):
        first, second = pair(seed=seed)
        assert torch.equal(compiled(first, second, index=ids(seed)), plain(first, second, index=ids(seed)))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, loss.state_dict()[name]), name
