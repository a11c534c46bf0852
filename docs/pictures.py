"""The README's pictures, out of a demo: what each step makes of some faces, an edited one, the report.

restyle demo --out demo && python docs/pictures.py demo
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from generators import load_generator
from pipeline import LatentDataset
from pipeline.editing.sheet import sheet
from pipeline.faces import images

DOCS = Path(__file__).parent
N_PORTRAITS = 3
# Of the report: its opening and its charts, as wide as a laptop shows them.
WIDTH, HEIGHT = 1280, 1740
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def steps(latents: str) -> np.ndarray:
    """Portraits spread over the data set and the photo: the aligned input, then every step."""
    columns = ["key", "latents_by_step", "aligned_image"]
    rows = list(LatentDataset(latents, where="status == 'ok'", columns=columns))
    photo = [row for row in rows if row["key"] == "astronaut"]
    portraits = [row for row in rows if row["key"] != "astronaut"]
    shown = portraits[:: max(1, len(portraits) // N_PORTRAITS)][:N_PORTRAITS] + photo
    synthesis = load_generator("demo").synthesis
    pictures = []
    for row in shown:
        with torch.inference_mode():
            drawn = synthesis(row["latents_by_step"].float())
        pictures.append([images.to_u8(image) for image in (row["aligned_image"], *drawn)])
    n_steps = len(pictures[0]) - 1
    return sheet(["aligned input", *(f"step {i + 1}" for i in range(n_steps))], pictures)


def screenshot(page: Path, out: Path) -> None:
    """The top of a page, in few enough colours for a small PNG."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("the picture of the report needs a Chromium; install one")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        options = (
            f"--headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir={folder}"
        )
        size = f"--window-size={WIDTH},{HEIGHT}"
        command = [browser, *options.split(), size, f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        data = io.BytesIO(shot.read_bytes())
    Image.open(data).convert("RGB").quantize(256).save(out, optimize=True)


def main(demo: str) -> None:
    """Write the pictures beside this file."""
    Image.fromarray(steps(f"{demo}/latents")).save(DOCS / "demo.jpg", quality=88)
    shutil.copy(f"{demo}/edited.jpg", DOCS / "edited.jpg")
    screenshot(Path(demo) / "report.html", DOCS / "report.png")


if __name__ == "__main__":
    main(sys.argv[1])
