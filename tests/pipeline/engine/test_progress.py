"""What a run leaves behind for those who watch it."""

import json
import os
from dataclasses import replace
from functools import partial

import pytest

from pipeline.engine import progress
from pipeline.engine.progress import ActiveShard, Progress, RunLog

run_log = partial(RunLog, last_waits_s=(0.0, 0.0, 0.0))


def lines(out):
    [path] = (out / "_run" / "logs").iterdir()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_progress_and_log_of_a_run(tmp_path):
    with run_log(str(tmp_path), 10, 4) as log:
        first = progress.read(str(tmp_path))
        log.log("done", "s.tar", rows={"ok": 3})
        begun = [ActiveShard("t.tar", "node gpu 0", 5, 1.5)]
        rows = {"n_done": 2, "n_by_status": {"ok": 4}, "n_rows": 6}
        log.heartbeat(replace(log.blank(), **rows, begun=begun))
        found = progress.read(str(tmp_path))
        assert found.is_alive()
        assert progress.concurrent_run(str(tmp_path), log.run) is None
        assert progress.concurrent_run(str(tmp_path), "another").run == log.run
    assert (first.n_asked, first.n_before, first.seconds_left) == (10, 4, None)
    assert found.begun == begun
    assert found.rows_per_s > 0
    # Four shards of two rows are left, and two of their rows are there.
    assert found.seconds_left == pytest.approx(6 * found.seconds / 6)
    last = progress.read(str(tmp_path))
    assert (last.state, last.n_done, last.begun, last.is_alive()) == ("finished", 2, [], False)
    events = [(line["event"], line["shard"]) for line in lines(tmp_path)]
    assert events == [("run_started", None), ("done", "s.tar"), ("run_ended", None)]
    assert {line["run"] for line in lines(tmp_path)} == {log.run}


def test_every_run_is_kept_and_the_last_even_when_it_was_killed(tmp_path):
    for n in (1, 2):
        with run_log(str(tmp_path), 3, 0, "f") as log:
            log.heartbeat(replace(log.blank(), n_samples=n))
    killed = run_log(str(tmp_path), 3, 0, "f")
    killed.heartbeat(replace(killed.blank(), n_samples=4))
    (tmp_path / "_run" / "runs" / "foreign.json").write_text("[]")
    found = progress.runs(str(tmp_path))
    assert sorted(run.n_samples for run in found) == [1, 2, 4]
    assert {run.fingerprint for run in found} == {"f"}
    assert {run.state for run in found} == {"finished", "running"}
    assert progress.runs(str(tmp_path / "nothing")) == []


def test_how_a_run_ended(tmp_path):
    with pytest.raises(KeyboardInterrupt), run_log(str(tmp_path), 1, 0):
        raise KeyboardInterrupt
    assert progress.read(str(tmp_path)).state == "stopped"
    with run_log(str(tmp_path), 1, 0) as log:
        failures = [{"shard": "s.tar", "error": "truncated"}]
        log.heartbeat(replace(log.blank(), n_failed=1, failures=failures))
    assert progress.read(str(tmp_path)).state == "unfinished"
    assert progress.read(str(tmp_path)).failures == failures


def test_a_second_run_leaves_the_progress_of_the_first_alone(tmp_path):
    with run_log(str(tmp_path), 1, 0) as first:
        with run_log(str(tmp_path), 1, 0):
            assert progress.read(str(tmp_path)).run == first.run
        assert progress.read(str(tmp_path)).run == first.run
    with run_log(str(tmp_path), 1, 0) as third:
        assert progress.read(str(tmp_path)).run == third.run


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_jumps_gives_no_negative_numbers(tmp_path, monkeypatch, jump):
    with run_log(str(tmp_path), 4, 0) as log:
        now = progress.time.time()
        monkeypatch.setattr(progress.time, "time", lambda: now + jump)
        log.heartbeat(replace(log.blank(), n_done=1, n_rows=3, n_by_status={"ok": 3}))
        found = progress.read(str(tmp_path))
        assert found.is_alive()
        assert not found.is_alive(now)
    assert found.seconds >= 0
    assert found.seconds_left >= 0
    assert found.rows_per_s >= 0


def test_progress_that_cannot_be_replaced_leaves_no_parts(tmp_path):
    (tmp_path / progress.PROGRESS).mkdir(parents=True)
    with run_log(str(tmp_path), 1, 0):
        assert sorted(path.name for path in (tmp_path / "_run").iterdir()) == [
            "logs",
            "progress.json",
        ]


def test_a_journal_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / "_run").write_text("a file where a folder is wanted")
    with run_log(str(tmp_path), 1, 0) as log:
        log.log("done", "s.tar")
        log.heartbeat(log.blank())
    assert progress.read(str(tmp_path)) is None


def test_unreadable_progress_is_none(tmp_path):
    assert progress.read(str(tmp_path)) is None
    path = tmp_path / progress.PROGRESS
    os.makedirs(path.parent)
    for content in ("", "[]", "{", '{"begun": 3}', '{"state": "running"}'):
        path.write_text(content)
        assert progress.read(str(tmp_path)) is None
    path.write_text(json.dumps({"run": "x", "of_a_later_version": 1, "n_samples": "many"}))
    assert progress.read(str(tmp_path)) == Progress("x")
