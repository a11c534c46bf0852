"""Workers that die, on a real Ray and in processes: results in order, and the item that kills is found."""

import os
import signal
import sys
import threading
import time
from itertools import count

import pytest

from pipeline.engine import processes
from pipeline.engine.processes import ProcessTasks
from pipeline.engine.tasks import Crash, InThisProcess, TaskMap
from pipeline.errors import ShardError

DEADLY, ONCE = 7, 12


def tenfold(numbers, folder):
    """Ten times each; dies at one number always, at another the first time."""
    for number in numbers:
        seen = os.path.join(folder, str(number))
        if number == ONCE and not os.path.exists(seen):
            open(seen, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
        if number == DEADLY:
            os.abort()
    return [10 * number for number in numbers], 0.5


def modules_loaded():
    return set(sys.modules)


def wait_for_ever():
    threading.Event().wait()


@pytest.fixture
def tasks(request):
    """Where calls are made: on Ray, or in processes."""
    if request.param == "ray":
        request.getfixturevalue("joined")
        from pipeline.engine.ray_tasks import RayTasks

        yield RayTasks()
    else:
        with ProcessTasks(2) as found:
            yield found


BOTH = pytest.mark.parametrize(
    "tasks", [pytest.param("ray", marks=pytest.mark.ray), "processes"], indirect=True
)


@BOTH
@pytest.mark.slow
def test_the_item_that_kills_workers_is_found_and_the_others_are_done(tasks, tmp_path):
    labour = TaskMap(tenfold, tasks, (str(tmp_path),))
    found = list(labour.map_ordered(range(16), 4, 3))
    assert [item for item, _, _ in found] == list(range(16))
    crashed = {item for item, result, _ in found if isinstance(result, Crash)}
    assert crashed == {DEADLY}
    assert all(result == 10 * item for item, result, _ in found if item != DEADLY)


def test_a_bounded_number_is_begun(tmp_path):
    taken = count()
    labour = TaskMap(tenfold, InThisProcess(), (str(tmp_path),))
    # Numbers above those that kill.
    source = (100 + next(taken) for _ in range(40))
    results = labour.map_ordered(source, 2, 3)
    for n_done in range(1, 11):
        next(results)
        n_begun = next(taken)
        taken = count(n_begun)
        assert n_begun <= n_done + 2 * 3 + 1


@BOTH
def test_an_error_of_python_is_no_death(tasks, tmp_path):
    labour = TaskMap(tenfold, tasks, (str(tmp_path / "absent"),))
    with pytest.raises(FileNotFoundError):
        list(labour.map_ordered([ONCE], 1, 1))


def test_processes_load_no_torch_and_none_is_left():
    with ProcessTasks(1) as tasks:
        from pipeline.inversion import feed

        feed.warm_up(1, tasks)
        loaded = tasks.answer(tasks.submit(modules_loaded))
        assert "dlib" in loaded
        assert not {"torch", "ray"} & loaded
        waiting = [tasks.submit(wait_for_ever) for _ in range(2)]
        while tasks._idle:  # until the first is begun
            time.sleep(0.01)
        [process] = tasks._all
        assert process._process.poll() is None
    assert process._process.poll() == -signal.SIGKILL
    assert tasks.answer(waiting[0]) is None
    assert waiting[1].cancelled()


def test_a_process_that_does_not_start_accuses_nobody(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "PROGRAM", "raise SystemExit(3)")
    with ProcessTasks(1) as tasks, pytest.raises(ShardError, match=r"not start .status 3.*--exec"):
        list(TaskMap(tenfold, tasks, (str(tmp_path),)).map_ordered([1], 1, 1))
