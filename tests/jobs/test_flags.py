"""Flags come from config dataclasses: their defaults, presets, lists, and the names that they had before."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
from click.testing import CliRunner

from jobs import flags
from jobs.cli import cli
from pipeline.config import setting
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Example:
    """A config with a field of every kind."""

    word: str = setting("a", "A word.", "Words")
    numbers: tuple[int, ...] = setting((1, 2), "Some numbers.", "Numbers", flag="some")
    rate: float | None = setting(None, "A rate.", "Numbers", least=0)
    keep: bool = setting(False, "Keep it.")
    words: tuple[str, ...] = setting((), "Some words.", "Words")
    hidden: int = 7

    def __post_init__(self):
        if self.word == "bad":
            raise ValueError("that word is bad")


PRESETS = {"usual": Example(), "other": Example(word="b", keep=True)}
RENAMED = {"term": "word"}
found = []


@flags.command(f"{__name__}:PRESETS", renamed=f"{__name__}:RENAMED")
@flags.flag("--preset", default="usual")
def command(preset, **options):
    """An example."""
    found.append(flags.build(Example, options, PRESETS[preset]))


def run(*words):
    result = CliRunner().invoke(command, words)
    return result, found[-1] if found else None


def test_what_is_not_passed_is_the_presets():
    assert run()[1] == Example()
    assert run("--preset", "other")[1] == PRESETS["other"]
    words = ("--preset", "other", "--some", "3,4", "--rate", "0.5", "--no-keep")
    assert run(*words)[1] == replace(PRESETS["other"], numbers=(3, 4), rate=0.5, keep=False)
    assert run("--word", "", "--some", "")[1] == Example(word="", numbers=())


@pytest.mark.parametrize("words", [["--preset", "other", "--help"], ["--help", "--preset=other"]])
def test_help_shows_the_presets_values_under_headings(words):
    text = run(*words)[0].output
    assert text.index("\nWords:") < text.index("\nNumbers:") < text.index("\nOptions:")
    assert "A word.  [default: b]" in text
    assert "Some numbers.  [default: 1,2]" in text
    assert "--hidden" not in text


def test_a_flag_is_known_by_its_earlier_name():
    assert run("--term", "c")[1].word == run("--term=c")[1].word == "c"


def test_what_cannot_be_is_refused():
    assert "numbers with commas" in run("--some", "1,x")[0].output
    assert isinstance(run("--word", "bad")[0].exception, ConfigError)


@pytest.mark.parametrize("earlier", ["--square", "--structure=0.3", "--levels", "--rate-critic"])
def test_scripts_that_distil_with_earlier_flags_still_run(earlier):
    words = [*earlier.split("="), "1"][:2]
    result = CliRunner().invoke(cli, ["train", "distil", "none.tar", "--out", "x", *words])
    assert "No such option" not in result.output
    assert "none.tar" in str(result.exception)


def test_words_may_be_quoted_or_stand_in_a_file(tmp_path):
    assert run("--words", 'a b,"c, d", ~')[1].words == ("a b", "c, d", "~")
    (tmp_path / "list").write_bytes(b'"e, ""f"""\r\ng, h\r\n' + b"caf\xe9")
    assert run("--words", f"@{tmp_path / 'list'}")[1].words == ('e, "f"', "g, h", "caf\udce9")
    assert "cannot read the list" in str(run("--words", "@absent")[0].exception)


def test_a_name_that_is_no_text_can_be_printed(tmp_path):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"1")
    for words in (
        ["pack", folder, folder / "%d.tar"],
        ["pack", folder, tmp_path / "%d.tar"],
        ["status", folder],
        ["invert", "--out", folder, tmp_path / "0.tar"],
    ):
        command = [sys.executable, "-m", "jobs", *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"}
        )
        assert "Traceback" not in done.stderr
        assert "caf\\" in done.stdout + done.stderr or words[2] == tmp_path / "%d.tar"
