"""Runs for the report's tests, written by the real writer, and a parser of its pages."""

import io
import json
import tarfile
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from latent_folders import inverted, write_file
from PIL import Image

from encoders import load_inverter
from pipeline import storage
from pipeline.config import RunConfig
from pipeline.engine import progress
from pipeline.engine.progress import Progress
from pipeline.faces.images import encode_png
from pipeline.latents.schema import Row
from pipeline.models import checkpoint_hashes

HOSTILE = "<script>alert(1)</script>"
N_STEPS, N_STYLES = 3, 10
QUAD = np.array([[20, 10], [18, 50], [58, 52], [60, 12]], np.float32)


def photo(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    return np.asarray(small.resize((80, 64), Image.Resampling.BICUBIC))


def write_shard(path: Path, keys: list[str]) -> None:
    with tarfile.open(path, "w") as tar:
        for i, key in enumerate(keys):
            info = tarfile.TarInfo(f"{key}.png")
            data = b"no picture" if key == "broken" else encode_png(photo(i))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def row(i: int, key: str, config: RunConfig, better: float = 0.0) -> Row:
    """One face. ``better`` is taken off its MSE."""
    rng = np.random.default_rng(i)
    marks = np.zeros((68, 2), np.float32)
    metrics: dict = {
        "mse": [0.5 + i / 100, 0.25 + i / 100, 0.125 + i / 100 - better],
        "psnr": [10.0 + i, 12.0 + i, 11.0 + i],
        "identity": [None, None, 0.4 + i / 100],
    }
    latents = rng.normal(size=(N_STEPS, N_STYLES, 16)).astype(np.float32)
    result = inverted(i, key, latents, metrics, landmarks=marks, quad=QUAD, width=80, height=64)
    if config.save_images:
        result.aligned_image = result.reconstruction = encode_png(photo(i)[:64, :64])
    if config.keep_fields:
        result.labels = {"label_smile": 0.25, "label_who": "<i>nobody</i>"}
    return result


@dataclass
class Run:
    """A run on disk, by the real writer."""

    folder: Path
    model: Path
    config: RunConfig

    def add(self, name: str, rows: list[Row], shard: str) -> None:
        inverter = load_inverter(self.model)
        settings = {**self.config.settings(), **checkpoint_hashes(inverter)}
        write_file(
            self.folder,
            name,
            rows,
            self.config,
            (N_STYLES, 16),
            settings,
            shard=shard,
            input_identity=storage.version(shard) if Path(shard).exists() else "size=1 mtime_ns=1",
            latent_avg_shape=[N_STYLES, 16],
            metric_protocol="float32 images",
            versions={"torch": "2"},
        )


def timed(folder: Path, fingerprint: str, run: str, **facts) -> None:
    """What a run that ended leaves behind."""
    path = Path(folder) / progress.RUNS / f"{run}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(Progress(run, fingerprint, **facts))))


@dataclass
class Parsed(HTMLParser):
    """What a test asks of a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str | None]]:
        found = [attrs for name, attrs in self.tags if name == tag]
        return [a for a in found if class_ is None or class_ in (a.get("class") or "").split()]

    def alts(self, start: str) -> int:
        return sum((a.get("alt") or "").startswith(start) for a in self.all("img"))


def parse(path: Path) -> Parsed:
    parsed = Parsed()
    parsed.feed(path.read_text("utf-8"))
    return parsed
