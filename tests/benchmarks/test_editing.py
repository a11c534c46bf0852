"""The page on editing shows the numbers of the record."""

import json
from pathlib import Path

import pytest

from benchmarks.editing import page, pasting, pivot
from benchmarks.editing.measure import LABELS, STRENGTHS, Edit

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def record():
    return json.loads((ROOT / "benchmarks" / "results" / "editing.json").read_text())


def test_the_tables_are_those_of_the_record(record):
    text = (ROOT / "docs" / "editing.md").read_text()
    assert page.effects([Edit(**each) for each in record["directions"]]) in text
    assert page.ways([Edit(**each) for each in record["ways"]]) in text


def test_each_direction_changes_its_attribute_more_than_any_other(record):
    assert tuple(record["strengths"]) == STRENGTHS
    for name, found in zip(LABELS, record["directions"], strict=True):
        slopes = found["slopes"]
        assert max(slopes, key=lambda attribute: abs(slopes[attribute])) == name == found["name"]


def test_tables_go_between_their_marks(tmp_path):
    (tmp_path / "editing.md").write_text("a\n<!-- ways -->\nold\n<!-- end -->\nb\n")
    page.write(tmp_path, {"ways": page.table(["x"], [["1"]])})
    text = (tmp_path / "editing.md").read_text()
    assert text == "a\n<!-- ways -->\n| x |\n| --- |\n| 1 |\n<!-- end -->\nb\n"
    with pytest.raises(ValueError, match="no place <!-- effects -->"):
        page.write(tmp_path, {"effects": ""})


def test_what_pivotal_tuning_brings_is_that_of_its_record():
    found = json.loads((ROOT / "benchmarks" / "results" / "pivot.json").read_text())
    ways = [pivot.Way(**each) for each in found["ways"]]
    assert pivot.table(ways) in (ROOT / "docs" / "editing.md").read_text()
    by_name = {way.name: way for way in ways}
    untuned, tuned = ways[0], by_name[pivot.SHOWN]
    assert tuned.portraits < 0.5 * untuned.portraits
    assert tuned.photo < 0.1 * untuned.photo
    assert tuned.smile > 0.7 * untuned.smile


def test_what_pasting_by_difference_brings_is_that_of_its_record():
    errors = json.loads((ROOT / "benchmarks" / "results" / "pasting.json").read_text())["errors"]
    assert pasting.table(errors) in (ROOT / "docs" / "editing.md").read_text()
    for name in ("smile", "mouth_open", "glasses"):
        _, replaced, added, *_ = errors[name]
        assert added < 0.6 * replaced, name
    _, replaced, in_face, in_square, _ = errors["hair_light"]
    assert in_square < replaced < in_face
