"""What a shell completes, asked as it asks; and what a wrong word is answered."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from jobs import completion, completion_file
from jobs.cli import cli

MAIN = "import sys; sys.argv[0] = 'restyle'; from jobs.cli import main; main()"


def complete(*words):
    """Type and value of each proposal for the last word."""
    bash = BashComplete(cli, {}, "restyle", "_RESTYLE_COMPLETE")
    return [(one.type, one.value) for one in bash.get_completions([*words[:-1]], words[-1])]


def test_commands_and_options_and_choices():
    assert complete("inv") == [("plain", "invert")]
    assert ("plain", "--precision") in complete("invert", "s.tar", "--pr")
    assert complete("invert", "--precision", "b") == [("plain", "bf16")]
    assert complete("invert", "--refine", "f") == [("plain", "fast")]
    assert complete("models", "e4e_c") == [
        ("plain", "e4e_cars_encode.pt"),
        ("plain", "e4e_church_encode.pt"),
    ]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("invert", "--model", "x"), "file"),
        (("invert", "shards/x"), "file"),
        (("edit", "lat"), "dir"),
        (("edit", "latents/", "--direction", "x"), "file"),
        (("train", "encoder", "--start-from", "x"), "file"),
    ],
)
def test_files_are_left_to_the_shell(words, kind):
    assert complete(*words) == [(kind, words[-1])]


def test_no_torch_is_loaded_to_complete():
    code = (
        "import sys; from jobs import cli; from click.shell_completion import BashComplete\n"
        "bash = BashComplete(cli.cli, {}, 'restyle', '_RESTYLE_COMPLETE')\n"
        "for words in (['edit', 'latents/'], ['render'], ['train', 'encoder'], ['invert']):\n"
        "    print(len(bash.get_completions(words, '--')), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line.split() for line in out.stdout.splitlines()]
    assert [is_loaded for _, is_loaded in lines] == ["False"] * 4
    assert all(int(n) > 10 for n, _ in lines)


def test_what_is_recorded_is_what_the_commands_have():
    assert (
        completion_file.as_text(completion_file.recorded_anew()) == completion.FILE.read_text()
    ), "run python -m jobs.completion_file"


def test_a_stand_in_completes_as_the_command_does():
    for words in completion.COMMANDS:
        recorded = json.loads(completion.FILE.read_text())[" ".join(words)]
        assert completion_file.record(completion.stand_in(*words)) == recorded


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_the_line_of_the_docs_works_in_bash(tmp_path):
    (tmp_path / "restyle").write_text(f"#!{sys.executable}\n{MAIN}\n")
    (tmp_path / "restyle").chmod(0o755)
    script = """
        eval "$(_RESTYLE_COMPLETE=bash_source restyle)"
        complete -p restyle
        COMP_WORDS=(restyle inv) COMP_CWORD=1
        _restyle_completion restyle
        echo "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    out = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert "restyle" in out.stdout.splitlines()[0]
    assert out.stdout.splitlines()[-1] == "invert"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["inver"], "Did you mean 'invert'?"),
        (["invert", "s.tar", "--ou", "x"], "--out"),
        (["train", "encodr"], "Did you mean 'encoder'?"),
        (["models", "restyle_psp_ffhq_encod"], "did you mean restyle_psp_ffhq_encode.pt?"),
    ],
)
def test_a_word_that_is_nearly_right_is_named(words, says):
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert says in result.output
