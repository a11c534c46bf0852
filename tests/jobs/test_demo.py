"""`restyle demo` as a newcomer runs it, with fewer portraits."""

import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.demo import demo as command
from pipeline import LatentDataset


@pytest.mark.slow
def test_demo_goes_the_whole_way(tmp_path, monkeypatch):
    first = subprocess.run(
        [sys.executable, "-m", "jobs", "demo", "--out", "demo", "--portraits", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert first.returncode == 0, first.stderr
    assert "4 samples, 4 rows (4 ok)" in first.stdout
    assert "open demo/report.html in a browser" in first.stdout
    ds = LatentDataset(str(tmp_path / "demo" / "latents"))
    assert [row["key"] for row in ds] == ["astronaut", "portrait_00", "portrait_01", "portrait_02"]
    for row in ds:
        assert row["n_faces"] == 1
        if row["key"] != "astronaut":  # of a real photo, a likeness is all that can be asked for
            assert row["mse"][-1] < row["mse"][0]
        assert row["latents_by_step"].shape == (5, 10, 128)
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "nearest drawn likeness" in " ".join(page.split())
    assert "images per second on 1" in page
    edited = Image.open(tmp_path / "demo" / "edited.jpg")
    assert edited.width > 6 * edited.height  # one row
    monkeypatch.chdir(tmp_path)
    again = CliRunner().invoke(command, ["--out", "demo", "--portraits", "3"])
    assert again.exit_code == 0, again.output
    assert "1 of 1 shards were finished before" in again.output
