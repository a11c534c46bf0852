"""How a command ends when something goes wrong that it was not made for: one sentence, status 2."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from latent_folders import failed, write_file

from jobs import cli as cli_module
from jobs.cli import cli, main
from jobs.train import COMMANDS, train
from jobs.values import List
from pipeline.config import RunConfig
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIG = RunConfig(steps=1, metrics=(), align="none")


@pytest.fixture
def run(monkeypatch, capsys):
    """A command that raises an error; its status and what it said."""

    def ended(error):
        def fail(**_):
            raise error

        monkeypatch.setattr(cli_module, "cli", fail)
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    return ended


class Panic(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            TypeError("'NoneType' is not\nsubscriptable"),
            "TypeError: 'NoneType' is not subscriptable",
        ),
        (KeyError("x"), "(KeyError: 'x'); please report it"),
        (AssertionError(), "(AssertionError)"),
        (RecursionError("deep"), "RESTYLE_TRACEBACK=1"),
        (SystemError("odd"), "SystemError: odd"),
        (Panic("called unwrap"), "Panic: called unwrap"),
        (ValueError("a" * 5000), "aaa"),
        (MemoryError("Unable to allocate 3 TiB"), "not enough memory for this (Unable to alloc"),
        (MemoryError(), "not enough memory"),
        (OSError(36, "File name too long", "xx"), "cannot use xx (File name too long)"),
        (OSError(28, "No space left on device"), "the output cannot be written (No space left"),
        (ConfigError("pass another"), "Error: pass another\n"),
    ],
)
def test_an_error_that_nobody_foresaw_is_one_sentence(run, error, says):
    status, said = run(error)
    assert status == 2
    assert says in said
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert len(said) < 600


def test_a_traceback_is_shown_where_it_is_asked_for(run, monkeypatch):
    monkeypatch.setenv("RESTYLE_TRACEBACK", "1")
    status, said = run(TypeError("odd"))
    assert status == 2
    assert "Traceback" in said
    assert said.rstrip().splitlines()[-1].startswith("Error: restyle has met an error")


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 1), (click.Abort(), 130)]
)
def test_an_interrupted_command_ends_as_shells_know_it(run, error, status):
    assert run(error)[0] == status


@pytest.mark.parametrize(
    ("streams", "status"),
    [
        (">/dev/full", 2),
        ("2>&-", 0),
        (">&-", 0),
        ("<&- >&- 2>&-", 0),
        ("2>/dev/full", 0),
    ],
)
def test_streams_that_are_closed_or_full(tmp_path, streams, status):
    write_file(tmp_path, "0.parquet", [failed(0, "a")], CONFIG)
    command = f"{sys.executable} -m jobs status {tmp_path} {streams}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr
    if status:
        assert done.stderr == (
            "Error: the output cannot be written (No space left on device); free some space, or send it "
            "elsewhere\n"
        )


def numbers():
    """Every flag of every command that takes a number."""
    groups = [(name, command) for name, command in cli.commands.items() if command is not train]
    with click.Context(train) as context:
        groups += [(f"train {name}", train.get_command(context, name)) for name in COMMANDS]
    for name, command in groups:
        with click.Context(command) as context:
            for option in command.get_params(context):
                kinds = (click.types.FloatParamType, click.types.IntParamType, List)
                is_number = isinstance(option.type, kinds)
                if is_number and getattr(option.type, "name", "") != "WORD,...":
                    yield pytest.param(option, id=f"{name} {option.opts[0]}")


@pytest.mark.parametrize("option", numbers())
def test_no_flag_takes_what_is_no_number_or_too_large(option):
    values = ["nan", "inf", "-inf", "1e400", "9" * 30, "9" * 5000]
    if isinstance(option.type, List):
        values += ["1,nan", "1e400,2"]
    elif isinstance(option.type, click.types.FloatParamType):
        values = values[:4]
    for value in values:
        is_whole = not value.strip("9")
        if is_whole and getattr(option.type, "name", "") == "X,X,..." and len(value) < 300:
            continue  # a large float is one
        with pytest.raises(click.BadParameter) as refused:
            option.type.convert(value, option, click.Context(cli))
        assert "\n" not in refused.value.message
