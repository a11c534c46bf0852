"""`restyle demo` as a newcomer runs it, with fewer portraits."""

import subprocess
import sys

from pipeline import LatentDataset


def test_demo_goes_the_whole_way(tmp_path):
    def demo():
        return subprocess.run(
            [sys.executable, "-m", "jobs", "demo", "--out", "demo", "--portraits", "3"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    first = demo()
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
    again = demo()
    assert again.returncode == 0, again.stderr
    assert "1 of 1 shards were finished before" in again.stdout
