"""Workers import what they run, so the functions live in a module that a fixture writes."""

import itertools
import multiprocessing
import operator
import os
import subprocess
import sys
import types

import pytest

from robustvision.core.errors import InputError, MissingExtraError
from robustvision.core.runtime.parallel import WorkerError, run_ordered

WORK = """
import os, sys
from pathlib import Path
from robustvision.core.errors import InputError, MissingExtraError

class Awkward(Exception):
    def __init__(self, first, second):
        super().__init__("awkward")

def double(x):
    return 2 * x

def pid(x):
    return os.getpid(), os.environ["OMP_NUM_THREADS"]

def die_once(job):
    folder, item = job
    mark = Path(folder) / f"died-{item}"
    if item == 3 and not mark.exists():
        mark.touch()
        os._exit(9)
    return item * item

def die_on_three(item):
    if item == 3:
        os._exit(7)
    return item

def fail_on_five(item):
    if item == 5:
        raise KeyError("five")
    return item

def refuse(item):
    raise InputError("it is too dark")

def awkward(item):
    raise Awkward(1, 2)

def give_lambda(item):
    return lambda: item

def note_done(job):
    folder, item = job
    (Path(folder) / str(item)).touch()
    return item
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    name = f"work_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__(name)
    assert multiprocessing.active_children() == []


BACKENDS = ["serial", "process"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_come_in_the_order_of_the_items(work, backend):
    assert run_ordered(work.double, range(20), workers=2, backend=backend) == [2 * x for x in range(20)]
    assert run_ordered(work.double, [], workers=2, backend=backend) == []
    assert run_ordered(work.double, iter("ab"), workers=2, backend=backend) == ["aa", "bb"]


def test_the_work_is_done_in_other_processes_that_share_the_cores(work, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    found = run_ordered(work.pid, range(4), workers=2)
    assert {threads for _, threads in found} == {"3"}
    assert os.getpid() not in {pid for pid, _ in found}


def test_one_worker_needs_no_process():
    assert run_ordered(lambda item: (os.getpid(), item), [1], workers=1) == [(os.getpid(), 1)]


def test_a_dead_worker_is_replaced_and_its_item_tried_again(work, tmp_path):
    jobs = [(str(tmp_path), item) for item in range(6)]
    assert run_ordered(work.die_once, jobs, workers=2) == [item * item for item in range(6)]
    assert (tmp_path / "died-3").exists()


def test_an_item_that_kills_twice_is_named(work):
    with pytest.raises(WorkerError, match=r"item 3 \(3\) ended its worker process 2 times \(exit code 7"):
        run_ordered(work.die_on_three, range(6), workers=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_says_on_which_item(work, backend):
    with pytest.raises(KeyError, match="five") as caught:
        run_ordered(work.fail_on_five, itertools.count(), workers=2, backend=backend)
    assert caught.value.__notes__ == ["while working on item 5 (5)"]
    with pytest.raises(InputError, match=r"^item 0 \('a\.png'\): it is too dark$"):
        run_ordered(work.refuse, ["a.png"], workers=2, backend=backend)


def test_the_workers_own_traceback_is_kept(work):
    with pytest.raises(KeyError) as caught:
        run_ordered(work.fail_on_five, range(6), workers=2)
    assert "in fail_on_five" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_still_tells_what_it_was(work):
    with pytest.raises(RuntimeError, match="Awkward: awkward"):
        run_ordered(work.awkward, [1], workers=2)


def test_long_items_are_named_shortly(work):
    with pytest.raises(InputError) as caught:
        run_ordered(work.refuse, ["x" * 10_000], workers=1)
    assert len(str(caught.value)) < 300


def test_items_are_drawn_only_when_a_worker_is_free(work, tmp_path):
    (tmp_path / "done").mkdir()

    def jobs():
        for item in range(12):
            assert len(os.listdir(tmp_path / "done")) >= item - 1, "more than two items were in flight"
            yield str(tmp_path / "done"), item

    assert run_ordered(work.note_done, jobs(), workers=2) == list(range(12))


def test_what_cannot_be_pickled_is_said(work):
    with pytest.raises(InputError, match=r"the function cannot be sent .* define it at the top of a module"):
        run_ordered(lambda item: item, [1, 2], workers=2)
    with pytest.raises(InputError, match="item 1 cannot be sent"):
        run_ordered(work.double, [1, lambda: 1], workers=2)
    with pytest.raises(InputError, match="the result cannot be sent"):
        run_ordered(work.give_lambda, [1, 2], workers=2)


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": -1}, {"backend": "threads"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError):
        run_ordered(operator.neg, [1], **options)


def test_a_script_without_guard_gets_an_error_and_no_hang(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import operator\n"
        "from robustvision.core.runtime import run_ordered\n"
        "print(run_ordered(operator.neg, [1, 2], workers=2))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert 'under `if __name__ == "__main__":`' in done.stderr


def test_progress_is_shown_only_with_a_label(capsys):
    run_ordered(operator.neg, [1, 2], workers=1)
    assert capsys.readouterr().err == ""
    run_ordered(operator.neg, [1, 2], workers=1, label="negating")
    assert capsys.readouterr().err == "negating: 2 of 2, 0 s\n"
    run_ordered(operator.neg, [1, 2], workers=1, label="negating", quiet=True)
    assert capsys.readouterr().err == ""


# --- Ray: a stand-in with the calls that are used; the real one where it is installed ---


class StandInRay(types.ModuleType):
    """Finishes the newest task first, to prove that order is restored."""

    def __init__(self):
        super().__init__("ray")
        self.exceptions = types.SimpleNamespace(
            WorkerCrashedError=type("WorkerCrashedError", (Exception,), {}),
            RayTaskError=type("RayTaskError", (Exception,), {}),
        )
        self.is_running, self.inits, self.most_in_flight = False, [], 0

    def is_initialized(self):
        return self.is_running

    def init(self, **options):
        self.is_running = True
        self.inits.append(options)

    def shutdown(self):
        self.is_running = False

    def remote(self, **options):
        assert options == {"max_retries": 1}
        return lambda function: types.SimpleNamespace(remote=lambda item: Reference(function, item))

    def wait(self, references, num_returns):
        self.most_in_flight = max(self.most_in_flight, len(references))
        return references[-num_returns:], references[:-num_returns]

    def get(self, reference):
        try:
            return reference.function(reference.item)
        except MemoryError as error:
            raise self.exceptions.WorkerCrashedError("the worker died") from error
        except Exception as cause:
            error = self.exceptions.RayTaskError(str(cause))
            error.cause = cause
            raise error from cause


class Reference:
    def __init__(self, function, item):
        self.function, self.item = function, item


@pytest.fixture
def stand_in_ray(monkeypatch):
    ray = StandInRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ray


def test_ray_results_come_in_order_with_a_bounded_number_in_flight(stand_in_ray):
    assert run_ordered(operator.neg, range(9), workers=3, backend="ray") == [-x for x in range(9)]
    assert stand_in_ray.most_in_flight == 3
    assert stand_in_ray.inits[0]["num_cpus"] == 3
    assert not stand_in_ray.is_running


def test_a_running_ray_is_used_and_left_running(stand_in_ray, monkeypatch):
    stand_in_ray.is_running = True
    run_ordered(operator.neg, [1], workers=1, backend="ray")
    assert (stand_in_ray.inits, stand_in_ray.is_running) == ([], True)
    stand_in_ray.is_running = False
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    run_ordered(operator.neg, [1], workers=1, backend="ray")
    assert "num_cpus" not in stand_in_ray.inits[0]


def test_ray_errors_name_the_item(stand_in_ray):
    def work(item):
        raise {0: InputError("too dark"), 1: KeyError("k"), 2: MemoryError()}[item]

    with pytest.raises(InputError, match=r"item 0 \(0\): too dark"):
        run_ordered(work, [0], backend="ray")
    with pytest.raises(KeyError) as caught:
        run_ordered(work, [1], backend="ray")
    assert caught.value.__notes__ == ["while working on item 0 (1)"]
    with pytest.raises(WorkerError, match=r"item 0 \(2\) ended its worker process"):
        run_ordered(work, [2], backend="ray")
    assert not stand_in_ray.is_running


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robustvision-core\[ray\]'"):
        run_ordered(operator.neg, [1], backend="ray")


@pytest.mark.slow
def test_the_real_ray_gives_the_same():
    pytest.importorskip("ray")
    assert run_ordered(operator.neg, range(6), workers=2, backend="ray") == [-x for x in range(6)]
    with pytest.raises(ZeroDivisionError) as caught:
        run_ordered(lambda item: 1 / item, [1, 0], workers=2, backend="ray")
    assert caught.value.__notes__ == ["while working on item 1 (0)"]
