"""docs/editing.md: its first commands, one after the other, on labelled portraits and the demo model."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import labelled_photos
from jobs.cli import cli
from pipeline import LatentDataset

PAGE = (Path(__file__).parent.parent.parent.parent / "docs" / "editing.md").read_text()
COMMANDS = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
N = 60


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each command said, by its name; run in a folder with ``photos/``."""
    folder = tmp_path_factory.mktemp("page")
    labelled_photos.write(folder / "photos", ["anna", "ben", *map(str, range(2, N))], 128)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = {}
        for command in COMMANDS:
            _, name, *words = shlex.split(command)
            result = CliRunner().invoke(cli, [name, *words], catch_exceptions=False)
            assert result.exit_code == 0, f"{command}\n{result.output}"
            found.setdefault(name, []).append(result.output)
        yield folder, found


@pytest.mark.slow
def test_every_command_makes_what_the_page_says(said):
    folder, outputs = said
    assert "on 12 rows held out" in outputs["learn-direction"][0]
    edited = LatentDataset(str(folder / "edited"))
    rows = edited.table(["key", "strength", "direction", "label_smile", "mse"]).to_pydict()
    assert set(rows["strength"]) == {-2.0, 2.0}
    assert set(rows["direction"]) == {"smile"}
    assert max(mse[-1] for mse in rows["mse"]) < 0.1
    assert "smile" in (folder / "edited.html").read_text()
    pasted = sorted(path.name for path in (folder / "pasted").rglob("*.jpg"))
    assert pasted == ["anna_smile+2.jpg", "anna_smile-2.jpg"]
    for name, n_frames in (("smile.webp", 25), ("morph.webp", 48)):
        with Image.open(folder / name) as movie:
            # Neighbours that are equal in 8 bits are kept as one.
            assert n_frames - 3 <= movie.n_frames <= n_frames


def test_the_pasted_face_is_another_and_the_photo_around_it_the_same(said):
    folder, _ = said
    photo = np.asarray(Image.open(folder / "photos" / "anna.jpg")).astype(int)
    less, more = (
        np.asarray(Image.open(next((folder / "pasted").rglob(f"anna_smile{s}.jpg")))).astype(int)
        for s in ("-2", "+2")
    )
    assert np.abs(less - photo)[:4].mean() < 3  # what JPEG changes
    assert np.abs(less - more)[:4].mean() < 1
    middle = slice(photo.shape[0] // 4, 3 * photo.shape[0] // 4)
    assert np.abs(less - more)[middle, middle].mean() > 1
