"""What losses remember of samples: duplicates, values that are not finite, checkpoints, several processes."""

import importlib
import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

from robustvision.core.losses import SampleState


@pytest.fixture(scope="module")
def processes():
    """The module ``sample_state_processes.py``, importable by its name, also in other processes."""
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module("sample_state_processes")


def test_two_processes_know_what_one_would(processes, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustvision.core.losses.aldr"])
    started = [context.Process(target=processes.train_one_of, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=120)
    assert [process.exitcode for process in started] == [0, 0]
    ours = processes.train(slice(None))
    theirs = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for step, value in enumerate(ours["values"]):
        torch.testing.assert_close(torch.cat([one["values"][step] for one in theirs]), value)
    for one in theirs:
        for part in ("aldr", "state"):
            for name, value in ours[part].items():
                torch.testing.assert_close(one[part][name], value, msg=name)


def test_duplicates_are_averaged_whatever_their_order():
    index, value = torch.tensor([3, 1, 3, 3, 0]), torch.tensor([1.0, 5.0, 2.0, 6.0, -1.0])
    for order in (torch.arange(5), torch.tensor([4, 3, 2, 1, 0]), torch.tensor([2, 0, 4, 3, 1])):
        state = SampleState(5, v=9.0)
        state.write(index[order], v=value[order])
        assert state.v.tolist() == [-1.0, 5.0, 9.0, 3.0, 9.0]


def test_what_is_not_finite_or_not_counted_is_not_stored():
    state = SampleState(4, v=1.0, w=2.0)
    nan = torch.tensor([torch.nan, 3.0, 4.0, torch.inf])
    state.write(torch.tensor([0, 1, 2, 3]), counted=torch.tensor([True, True, False, True]), v=nan, w=torch.ones(4))
    assert state.v.tolist() == [1.0, 3.0, 1.0, 1.0]
    assert state.w.tolist() == [2.0, 1.0, 2.0, 2.0]  # a sample is stored as a whole
    assert state.visited.tolist() == [False, True, False, False]
    state.write(torch.tensor([1, 1]), v=torch.tensor([torch.nan, 5.0]), w=torch.zeros(2))
    assert state.v[1] == 5.0


def test_a_part_of_the_values_may_be_written():
    state = SampleState(2, v=1.0, w=2.0)
    state.write(torch.tensor([1]), w=torch.tensor([7.0]))
    assert (state.v.tolist(), state.w.tolist()) == ([1.0, 1.0], [2.0, 7.0])


def test_it_is_float32_in_checkpoints_and_reads_copies():
    state = SampleState(3, v=0.5)
    state.write(torch.tensor([0]), v=torch.tensor([1 / 3], dtype=torch.float64))
    assert set(state.state_dict()) == {"v", "visited"}
    assert state.state_dict()["v"].dtype == torch.float32
    read = state.read(torch.tensor([0, 2]))
    read["v"].zero_()
    assert state.v[2] == 0.5


def test_an_empty_batch_is_nothing():
    state = SampleState(3, v=0.5)
    index = state.check(torch.zeros(0, dtype=torch.long), 0)
    state.write(index, v=torch.zeros(0))
    assert state.v.tolist() == [0.5] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_stays_float32_where_the_model_changes_its_dtype(dtype):
    state = SampleState(3, v=9.99)
    state.to(dtype)
    state.write(torch.tensor([1]), v=torch.tensor([9.98], dtype=torch.float64))
    assert state.v.dtype == torch.float32
    torch.testing.assert_close(state.v, torch.tensor([9.99, 9.98, 9.99]))
    assert state.to("meta").v.device.type == "meta"
