"""Settings: the options and arguments of the commands, and the files that hold lists of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from random import Random

import click

from benchmarks.fuzz import folders
from benchmarks.fuzz.damage import damaged
from benchmarks.fuzz.folders import Files
from benchmarks.fuzz.kinds import Kind
from benchmarks.fuzz.outcome import ROOT
from jobs import flags, values
from jobs.cli import cli

PHOTO = ROOT / "pipeline" / "portraits" / "astronaut.jpg"
NUMBERS = (
    "0", "1", "2", "3", "5", "-1", "00", "1.5", "0.1", "1e3", "1e400", "-0", "nan", "inf", "-inf",
    "9" * 5000, "2147483648", "9223372036854775808", "1e-400", "1_0", "0x10", "١", " 1 ", "",
    "auto", "1,2", "0-3,7", "0-999999999999", "3-1", ",,", "-2,2", "nan,1", "1e400,1",
)  # fmt: skip
WORDS = (
    "", " ", "x", "none", "demo", "mse", "mse,psnr", "mse,mse", "lpips", "json", "txt,cls",
    "age=float", "age=", "=x", "x" * 300, "x" * 5000, "\ud8ff", "\udcff", "\0", "a\nb", "\x1b[2J",
    "@", "@list.txt", "@in", "@nowhere", "status == 'ok'", "mse < 1e400", "mse <", "(" * 200,
    "mse < 1) or (True", "__import__('os')", "1 and 1", "not " * 300 + "1",
    "key == '" + "y" * 5000 + "'", "sefa:0", "sefa:99999", "sefa:-1", "sefa:" + "9" * 5000,
    "demo:smile", "demo:x", "2*demo:smile + -1*demo:yaw", "demo:smile@0-3", "demo:smile@99",
    "nan*demo:smile", "1e400*demo:smile", "a=demo:smile", "=demo:smile", " + ", "*", "smile",
    "label_smile", "00", "01", "00,01", '"', "True",
)  # fmt: skip
PATHS = (
    "lat", "s.tar", "photos", "list.txt", "model.safetensors", "nowhere", ".",
    "/dev/null", "loop", "*.tar", "[", "{a,b}", "{0..3}.tar", "{0..",
    "s{,x}.tar", "{000..9999999999}.tar", "?" * 50, "**/*", "a/" * 3000, "x" * 300, "pipe:",
    "pipe:cat s.tar", "nope://x", "file:///nowhere", "s3://", "http://[", "@list.txt", "@nowhere",
    "@", "%d.tar", "%06d.tar", "%c.tar", "%s%s.tar", "%999999999d.tar", "%", "../out/new",
    "../out/x.npy", "../out/%06d.tar", "../out/r.html", "../out/x.webp", "../out/x.mp4",
    "../out/\udcff", "../out/" + "x" * 300, "",
)  # fmt: skip
GOOD = {
    "status": ["lat"], "verify": ["lat"], "inspect": ["model.safetensors"],
    "report": ["lat", "--limit", "1"], "convert": ["model.safetensors", "../out/x.safetensors"],
    "pack": ["photos", "../out/%06d.tar"],
    "export": ["lat", "--to", "npy", "--out", "../out/x.npy"],
    "compare": ["lat", "lat", "--resamples", "100"],
    "learn-direction": ["lat", "--label", "smile", "--out", "../out/d.safetensors"],
    "interpolate": ["lat", "00", "01", "--steps", "1", "--out", "../out/f"],
    "render": ["lat", "--out", "../out/pictures", "--limit", "1"],
    "edit": ["lat", "--out", "../out/edited", "--direction", "sefa:0", "--dry-run"],
    "invert": ["s.tar", "--out", "../out/new", "--align", "none", "--metrics", "mse", "--dry-run"],
}  # fmt: skip
DRAWN = ("report", "render", "interpolate", "edit", "invert")  # which take --model
TRAINS = ("encoder", "generator", "distil")  # their options are parsed, for there is no --dry-run
# What would go on for long, and may: it was asked for.
LONG = ("--resamples", "--steps", "--limit", "--samples")


def _originals(_: Path) -> Files:
    image = PHOTO.read_bytes()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (("a.jpg", image), ("a.json", b'{"age": 3, "smile": true}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    files = {f"lat/{name}": data for name, data in folders.originals(Path())["protocol3"].items()}
    listed = b"s.tar\n# not this one\nmse\n00\n\n"
    others = {"s.tar": out.getvalue(), "photos/a.jpg": image, "list.txt": listed}
    return files | others | {"model.safetensors": folders.MODEL.read_bytes()}


def _write(draw: Random, given: Path, made: Files) -> None:
    changed = {}
    if draw.random() < 0.3:
        changed = {
            "list.txt": draw.choice(
                (b"\xff\xfe", b"@list.txt", b"{0..999999999}", damaged(draw, made["list.txt"]))
            )
        }
    folders.put(made | changed, given)
    (given / "loop").symlink_to("loop")


def _command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def _value(draw: Random, option: click.Parameter) -> str:
    """Mostly of the kind that the option wants."""
    if draw.random() < 0.15:
        return draw.choice((*NUMBERS, *WORDS, *PATHS))
    if isinstance(option.type, click.Choice) and draw.random() < 0.7:
        return str(draw.choice(list(option.type.choices)))
    is_number = isinstance(option.type, click.types.FloatParamType | click.types.IntParamType)
    if is_number or (isinstance(option.type, values.List) and "WORD" not in option.type.name):
        return draw.choice(NUMBERS)
    is_path = option.name in ("out", "model", "then", "generator", "photos", "held_out", "init")
    return draw.choice(PATHS if is_path else (*WORDS, *WORDS, *PATHS))


def _varied(draw: Random, command: click.Command, good: list[str]) -> list[str]:
    """Good words with one to four other options behind them, or another argument among them."""
    words = list(good)
    with click.Context(command, info_name=command.name) as context:
        options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    options = [p for p in options if p.name not in ("help", "address")]
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        if draw.random() < 0.25:
            at = draw.randrange(len(words) + 1) if words else 0
            words[at : at + draw.choice((0, 1, 1))] = [draw.choice(PATHS)]
            continue
        option = draw.choice(options)
        name = draw.choice(option.opts)
        value = _value(draw, option)
        if name in LONG and value.strip().lstrip("0").isdigit() and len(value.strip()) > 1:
            value = "3"
        words += [name] if option.is_flag else [f"{name}={value}"]
    return words


def _words(draw: Random, given: Path) -> list[str]:
    name = draw.choice(list(GOOD))
    good = GOOD[name] + (["--model", "model.safetensors"] if name in DRAWN else [])
    words = _varied(draw, _command(name), good)
    dry = ["--dry-run"] if name in ("edit", "invert") and "--dry-run" not in words else []
    return [name, *dry, *words]


def _parsed(draw: Random, given: Path) -> None:
    """The configs of a command that is not run."""
    name = draw.choice(("invert", "edit", "interpolate", "render", *TRAINS))
    group = _command("train")
    command = (
        _command(name) if name not in TRAINS else group.get_command(click.Context(group), name)
    )  # type: ignore[attr-defined]
    good = GOOD.get(name, ["s.tar", "--out", "../out/new"])
    with command.make_context(name, _varied(draw, command, good)) as context:
        for address in command.configs:
            kind = flags._load(address)
            flags.build(
                type(next(iter(kind.values()))) if isinstance(kind, dict) else kind, context.params
            )


KIND = Kind("options", _originals, _write, _words, (_parsed,))
