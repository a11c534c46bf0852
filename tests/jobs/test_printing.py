"""What a file holds is shown, and never obeyed by the terminal: control codes, bidi marks, line breaks."""

import ast
import json
import warnings
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from latent_folders import failed, write_file
from safetensors.torch import save_file

from jobs import printing
from jobs.cli import cli, main
from pipeline.config import RunConfig
from pipeline.engine.progress import ActiveShard, RunLog
from pipeline.engine.run_folder import RunFolder
from pipeline.printing import printable
from pipeline.records import Status, Task

ESC, BEL, C1, BIDI = "\x1b[2J\x1b]0;title\x07", "\x07", "\x9b31m", "\u202egpj.exe\u202c"
HOSTILE = f"a{ESC}{BEL}{C1}{BIDI}\r0 problems\u200b\u2028"
CONFIG = RunConfig(steps=1, metrics=(), align="none")


def raw(text):
    """The characters of an output that a terminal would obey."""
    return {c for c in text if not (c.isprintable() or c in "\n\u3000")}


@pytest.fixture
def invoke():
    """Run a command; its output, of which nothing is raw."""

    def run(*words):
        result = CliRunner().invoke(cli, [str(word) for word in words])
        if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert raw(result.output) == set()
        return result.output

    return run


def test_text_stays_one_line_that_shows_what_it_holds():
    assert printable("Ünïcödé 顔\u3000写真 😀") == "Ünïcödé 顔\u3000写真 😀"
    assert printable(HOSTILE).isprintable()
    assert "\\x1b[2J" in printable(HOSTILE)
    assert printable("a\nb\tc\\n") == "a\\nb\\tc\\n"
    assert printable("\udcff") == "\\udcff"
    assert printable(ValueError("x\x00")) == "x\\x00"


def test_a_checkpoint(invoke, tmp_path):
    header = {"kind": "direction", "config": {HOSTILE: HOSTILE}, "notes": f"{HOSTILE}\nsize 1"}
    tensors = {"direction": torch.zeros(8, 16)}
    save_file(tensors, tmp_path / "d.safetensors", metadata={"restyle": json.dumps(header)})
    text = invoke("inspect", tmp_path / "d.safetensors")
    assert "\\x1b[2J" in text
    assert "\nsize 1" not in text
    torch.save({HOSTILE: torch.zeros(1)}, tmp_path / "e.pt")
    result = CliRunner().invoke(cli, ["inspect", str(tmp_path / "e.pt")])
    assert raw(str(result.exception)) == set()


def test_a_run_folder(invoke, tmp_path):
    out = str(tmp_path / "latents")
    RunFolder(out).require_writable()
    asked = [Task(f"{HOSTILE}{i}.tar", "", f"{i}.parquet") for i in range(4)]
    RunFolder(out).write_run_record(CONFIG.settings(), asked, overwrite=False)
    write_file(out, "0.parquet", [failed(0, HOSTILE, Status.CRASHED, HOSTILE)], CONFIG)
    log = RunLog(out, 4, 0)
    failures = [{"shard": f"{HOSTILE}1.tar", "error": HOSTILE}]
    begun = [ActiveShard(f"{HOSTILE}2.tar", HOSTILE, 5, 61.0)]
    with log:
        log.heartbeat(
            log.blank().__class__(**{**vars(log.blank()), "begun": begun, "failures": failures})
        )
        text = invoke("status", out)
    assert "\\x1b[2J" in text
    assert "\\x1b[2J" in invoke("verify", out)


def test_keys_and_shards_of_a_plan(invoke, tmp_path):
    photos = tmp_path / f"photos{BIDI}"
    photos.mkdir()
    (photos / f"x{ESC}.y.jpg").write_bytes(b"1")
    (photos / f"n{BEL}.bin").write_bytes(b"1")
    text = invoke("pack", photos, tmp_path / f"s{ESC.replace('/', '')}.tar")
    assert "\\x1b[2J" in text


def test_errors_and_what_python_prints(capsys, monkeypatch, tmp_path):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["restyle", *map(str, words)])
        monkeypatch.setattr("sys.excepthook", printing._unforeseen)
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            main()
        text = "".join(capsys.readouterr())
        assert raw(text) == set()
        return ended.value.code, text

    assert "\\x1b[2J" in run("invert", f"{tmp_path}/no{ESC}such.tar", "--out", "o")[1]
    assert run(f"no{ESC}such")[0] == 2
    assert run("inspect", "demo", f"--no{ESC}such")[0] == 2
    assert run("inspect", tmp_path / f"no{ESC}such.pt")[0] == 2
    printing._unforeseen(ValueError, ValueError(HOSTILE), None)
    printing._warn(UserWarning(HOSTILE), UserWarning, HOSTILE, 1)
    printing.show(click.UsageError(HOSTILE))
    text = capsys.readouterr().err
    assert raw(text) == set()
    assert "ValueError" in text


def test_commands_print_in_one_way():
    jobs = Path(printing.__file__).parent
    for path in jobs.rglob("*.py"):
        calls = [
            ast.unparse(n.func)
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call)
        ]
        other = {"click.echo", "click.secho", "print", "tqdm.write", "sys.stdout.write"} & set(
            calls
        )
        assert path.name == "printing.py" or not other, f"{path.name} prints by {other}"
