"""What a command shows while a run goes on, and how little or in what form it is told to."""

import json
import logging
from collections import Counter

import pytest
from click.testing import CliRunner

from jobs import progress
from jobs.cli import cli, main
from jobs.printing import Manner, clock, manner, speed
from pipeline.engine.driver import Summary
from pipeline.engine.events import tell


@pytest.fixture(autouse=True)
def as_before():
    """The manner is the process's own: each test ends with the usual one."""
    yield
    vars(manner).update(vars(Manner()))


def shown(capsys, n_shards=2, **how):
    """What is printed of a run whose first shard is done and whose second is half read."""
    vars(manner).update(how)
    with progress.display(n_shards) as display:
        tell({"event": "ray_starting", "address": "local"})
        tell({"event": "worker_ready", "worker": "w"})
        summary = Summary(n_shards=1, n_by_status=Counter(ok=30, no_face=10), begun=0.5)
        tell({"event": "done", "shard": "0.tar"})
        display(summary, 20)
        display.ticked()
    return display, capsys.readouterr()


def test_a_share_of_a_shard_that_is_being_read_counts(capsys):
    display, said = shown(capsys)
    assert (display.n_done, display.n_rows, display.n_failed) == (1.5, 60, 10)
    assert display.left_s == pytest.approx(display.working_s / 3, rel=0.2)
    assert said.err.splitlines()[:2] == ["starting Ray", "inverting"]
    assert said.out == ""


def test_json_is_one_object_a_line(capsys):
    _, said = shown(capsys, as_json=True)
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [e["event"] for e in events] == ["ray_starting", "worker_ready", "done", "progress"]
    assert all(e["time"] for e in events)
    assert (events[-1]["n_done"], events[-1]["n_shards"], events[-1]["n_rows"]) == (1.5, 2, 60)
    assert said.err == ""


def test_quiet_shows_nothing_and_a_log_level_lines(capsys):
    _, said = shown(capsys, quiet=True)
    assert said == ("", "")
    _, said = shown(capsys, quiet=True, log_level=logging.DEBUG)
    words = [line.split()[1:] for line in said.err.splitlines()]
    assert ["done", "shard=0.tar"] in words


def test_a_bar_on_a_terminal_says_what_it_waits_for(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    _, said = shown(capsys)
    assert "starting Ray" in said.err
    assert "1.5/2 shards, 00:00 elapsed, about 00:00 left, 60 rows" in said.err


def test_options_say_how_a_command_talks(tmp_path, write_tar):
    tar = write_tar(tmp_path / "0.tar", [("a.jpg", b"no picture")])
    command = ["invert", tar, "--out", str(tmp_path / "out"), "--dry-run"]
    assert "1 shard, 1 to do" in CliRunner().invoke(cli, command).stdout
    quiet = CliRunner().invoke(cli, [*command, "-q"])
    assert (quiet.exit_code, quiet.output) == (0, "")
    lines = CliRunner().invoke(cli, [*command, "--json"]).stdout.splitlines()
    assert {json.loads(line)["event"] for line in lines} == {"message", "warning"}
    CliRunner().invoke(cli, command, env={"RESTYLE_LOG": "debug"})
    assert manner == Manner(log_level=logging.DEBUG)


def test_an_error_is_an_event_too(tmp_path, monkeypatch, capsys):
    command = ["restyle", "invert", str(tmp_path / "*.tar"), "--out", str(tmp_path / "o"), "--json"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    event = json.loads(said.out.splitlines()[-1])
    assert (stop.value.code, event["event"]) == (2, "error")
    assert event["text"].startswith("no shard matches")
    assert said.err.startswith("Error: no shard matches")


def test_less_than_a_row_a_second_is_seconds_per_row():
    assert (speed(7, 2.0), speed(1, 4.0), speed(0, 4.0)) == (
        "3.5 rows/s",
        "4.0 s/row",
        "0.0 rows/s",
    )
    assert (clock(125.9), clock(3725)) == ("02:05", "1:02:05")
