"""Damaged and hostile input of five kinds; a longer run of the same is `python -m benchmarks.fuzz all`."""

import pytest

from benchmarks.fuzz import commands, guard, kinds, record, supervisor
from benchmarks.fuzz.all_kinds import KINDS
from benchmarks.fuzz.outcome import NAMES, Outcome

COUNT = 150


def tried(name, way, count, folder):
    """What fell of so many inputs, and how the others ended."""
    kind, found = KINDS[name], record.Record(name, way, seed=0)
    attempt = commands.attempt if way == "commands" else kinds.attempt
    box = folder / "box"
    box.mkdir()
    originals = kind.originals(box)
    for number in range(count):
        found.add(attempt(kind, kinds.draws(kind, 0, number, way), box, originals), 0.0)
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory that comes to its end with the test."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_input_is_read_or_refused_in_one_sentence(name, tmp_path):
    found = tried(name, "read", COUNT, tmp_path)
    assert found.falls == []
    assert min(found.by_outcome["read"], found.by_outcome["refused"]) > 5


def test_what_fell_is_told_by_its_place():
    found = record.Record("parquet", "read", seed=0)
    for text in ("a", "b"):
        found.add(Outcome("fell", "KeyError pipeline/x.py:f", text), 0.5)
    found.add(Outcome("read"), 1.5)
    [fall] = found.falls
    assert fall == record.Fall("KeyError pipeline/x.py:f", 2, 0, "a", [0, 1])
    assert (found.n, found.slowest) == (3, 2)
    found.replace(fall, Outcome("refused"))
    assert (found.n, found.by_outcome) == (3, {"fell": 1, "refused": 1, "read": 1})
    found.replace(fall, Outcome("read"))
    assert found.falls == []


@pytest.mark.slow
def test_a_run_goes_on_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    supervisor.run(record.read("run_files", "read", 3), 10)
    found = supervisor.run(record.read("run_files", "read", 3), 20)
    assert found.n == sum(found.by_outcome.values()) == 20
    assert record.read("run_files", "read", 3) == found
    assert record.read("run_files", "read", 4).n == 0
    fall = record.Fall("mended since", 1, 5, "", [5])
    found.falls.append(fall)
    found.by_outcome.update(fell=1, read=-1)
    again = supervisor.retry(found)
    assert again.falls == []
    assert sum(again.by_outcome.values()) == 20


def test_what_is_written_elsewhere_and_what_is_started_is_seen(tmp_path):
    (tmp_path / "box").mkdir()
    with guard.inside(tmp_path / "box"):
        (tmp_path / "box" / "a").write_text("inside")
        with pytest.raises(guard.Outside, match="open"):
            (tmp_path / "b").write_text("outside")
        with pytest.raises(guard.Outside, match="mkdir"):
            (tmp_path / "box" / ".." / "c").mkdir()
    (tmp_path / "b").write_text("nobody watches any more")
