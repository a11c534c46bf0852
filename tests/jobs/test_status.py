"""`restyle status` beside a run, after its end and after its death, from files alone."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from jobs.cli import cli
from pipeline.config import RunConfig
from pipeline.engine import run_folder
from pipeline.engine.progress import ActiveShard, RunLog
from pipeline.latents import schema
from pipeline.latents.schema import Row
from pipeline.latents.writer import ShardWriter
from pipeline.records import AlignedFace, Status, Task

CONFIG = RunConfig(steps=1, metrics=(), align="none")


@pytest.fixture
def out(tmp_path):
    """Four shards asked for, one of them done."""
    out = str(tmp_path / "latents")
    run_folder.require_writable(out)
    asked = [Task(f"{i}.tar", "", f"{i}.parquet") for i in range(4)]
    run_folder.write_run_record(out, CONFIG.settings(), asked, overwrite=False)
    writer = ShardWriter(out, "0.parquet", "0.tar", schema.schema(CONFIG, 2, 3))
    bad = AlignedFace(0, "0", Status.CRASHED, "died")
    writer.add([Row(bad, bad.status, bad.error)])
    writer.commit({"n_samples": 1, "n_by_status": {"crashed": 1}})
    return out


@pytest.fixture
def run(out):
    """A run that has begun one shard and given up another."""
    log = RunLog(out, 4, 0)
    failures = [{"shard": "1.tar", "error": "ShardError: 1.tar is not a whole tar file"}]
    begun = [ActiveShard("2.tar", "node gpu 0 pid 7", 5, 61.0)]
    facts = {"n_done": 1, "n_rows": 6, "n_by_status": {"crashed": 1}, "n_failed": 1}
    return log, replace(log.blank(), begun=begun, failures=failures, **facts)


def status(out):
    result = CliRunner().invoke(cli, ["status", out], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_beside_a_run(out, run):
    log, progress = run
    with log:
        log.heartbeat(progress)
        text = status(out)
    assert "shards: 1 of 4 done, 1 running, 1 failed" in text
    assert "crashed                   1  100.0%" in text
    assert "run:    running for 0:00:00" in text
    assert "images/s, about 0:00:00 left" in text
    assert "  2.tar: 5 rows, 0:01:01, on node gpu 0 pid 7" in text
    assert "failed: 1.tar: ShardError: 1.tar is not a whole tar file" in text
    assert "not done: 2.tar" in text
    assert "not done: 1.tar" not in text


def test_after_its_end(out, run):
    log, progress = run
    assert "waited" not in status(out)
    busy = {"read": 1.0, "align": 9.0, "wait": 3.0, "invert": 0.75, "score": 0.25}
    with log:
        log.heartbeat(replace(progress, busy_s=busy))
    text = status(out)
    assert "1 of 4 done, 0 running, 1 failed" in text
    assert "run:    unfinished, begun 2" in text
    assert "        the device waited 75% of the time for input; decoding and alignment" in text
    assert "the same `restyle invert` command again continues" in text


def test_after_its_death(out, run, tmp_path):
    log, progress = run
    log.heartbeat(progress)
    path = tmp_path / "latents" / "_run" / "progress.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps({**old, "written": old["written"] - 60}))
    text = status(out)
    assert "0 running" in text
    assert "run:    stopped without a word" in text


def test_without_a_heartbeat(out):
    assert "run:" not in status(out)
