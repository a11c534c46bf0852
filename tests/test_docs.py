"""What the README and docs/ tell people to type: it runs, or at least exists."""

import re
import shlex
import shutil
from importlib.resources import files
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import labelled_photos
from jobs.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
# Of the README: a file that its authors keep, in whose place the demo's model is given.
PUBLISHED = "restyle_psp_ffhq_encode.pt"
N = 46


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(page):
    """Lines that call `restyle`, without their comments; those with a backslash at their end joined."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in text.splitlines()]
    return [
        line[line.index("restyle ") :] for line in lines if re.match("(.* -- +)?restyle ", line)
    ]


def run(page, word, folder, monkeypatch):
    """Run the block of a page that holds a word: what its names are afterwards."""
    [block] = [b for b in blocks(page, "python") if word in b]
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(page):
    for line in commands(page):
        command, words = cli, shlex.split(line)[1:]
        while isinstance(command, click.Group):
            name = words.pop(0)
            command = command.get_command(click.Context(command), name)
            assert command is not None, f"{line}: no command {name}"
        parameters = command.get_params(click.Context(command))
        known = {
            name
            for parameter in parameters
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(re.findall(r" (--[a-z-]+)", line)) <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_what_it_links_to_exists(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        there = target.startswith("http") or ((ROOT / page).parent / target).exists()
        assert there, target


@pytest.mark.parametrize("page", PAGES)
def test_pictures_say_what_they_show(page):
    text = (ROOT / page).read_text()
    assert not re.search(r"!\[\s*\]\(", text)


def test_the_readme_is_one_screen_and_an_index():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """A folder in which all of the README's commands that need no cluster were given, in their order."""
    folder = tmp_path_factory.mktemp("readme")
    labelled_photos.write(folder / "photos", [*map(str, range(N))], 96)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        for line in commands("README.md"):
            if "s3://" in line:
                continue
            words = shlex.split(line.replace(PUBLISHED, "demo"))[1:]
            result = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert result.exit_code == 0, f"{line}\n{result.output}"
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_the_readme_leads_from_photos_to_edits(readme, monkeypatch):
    names = run("README.md", "LatentDataset", readme, monkeypatch)
    assert names["w_plus"].shape[0] > N / 2
    assert names["first"]["status"] == "ok"
    assert (readme / "ffhq.safetensors").stat().st_size > 1e6
    assert "three" in (readme / "compare.html").read_text()
    assert len(list((readme / "pasted").rglob("*.jpg"))) == 2 * N


def test_one_photo(tmp_path, monkeypatch):
    photo = files("pipeline.portraits") / "astronaut.jpg"
    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    names = run("README.md", "Inverter(", tmp_path, monkeypatch)
    assert len(names["face"].images) == 5
    with Image.open(tmp_path / "smiling.jpg") as pasted, Image.open(photo) as before:
        assert pasted.size == before.size


def test_a_model_in_python(tmp_path, monkeypatch):
    names = run("docs/python.md", "load_inverter", tmp_path, monkeypatch)
    assert names["result"].latents.shape[0] == 5


def test_the_photo_of_each_row(tmp_path, monkeypatch):
    from latent_folders import failed, write_file

    rows = [failed(i, f"{i}") for i in range(2)]
    names = {"shard": "photos:///my%20photos/?from=a.jpg", "photos": ["a.jpg", "b/caf%C3%A9.jpg"]}
    write_file(tmp_path, "x.parquet", rows, **names)
    found = run("docs/photos.md", "photo_paths", tmp_path, monkeypatch)["photo_paths"]
    assert found("x.parquet") == ["/my photos/a.jpg", "/my photos/b/café.jpg"]


@pytest.mark.slow
def test_a_clip(tmp_path, monkeypatch):
    import numpy as np
    from clip_files import write_clip

    from benchmarks.video import portrait_clip
    from pipeline import LatentDataset
    from pipeline.shards import clips

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = portrait_clip(12, 256)
    write_clip("clip.mp4", before, sound=np.zeros(8000, np.float32))
    four = commands("docs/video.md")[:4]
    assert [line.split()[1] for line in four] == ["pack", "invert", "edit", "render"]
    for line in four:
        result = CliRunner().invoke(cli, shlex.split(line)[1:], catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert "12 frames, sound of clip.mp4: smiling.mp4" in result.output
    rows = list(LatentDataset("smiling/"))
    assert [row["status"] for row in rows] == ["ok"] * 12
    frames = list(clips.frames("smiling.mp4"))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(12) / 24, abs=1e-4)
    change = np.abs(np.stack([f.image_u8 for f in frames]).astype(int) - before).mean(axis=(0, 3))
    x, y = np.mean([np.asarray(row["landmarks"])[48:].mean(axis=0) for row in rows], axis=0)
    mouth = change[int(y) - 6 : int(y) + 6, int(x) - 12 : int(x) + 12].mean()
    assert mouth > 4 * change[:40].mean()


def test_drawing_with_stylegan3(tmp_path, monkeypatch):
    names = run("docs/models.md", "StyleGAN3Generator", tmp_path, monkeypatch)
    assert names["image"].shape == (1, 3, 32, 32)
