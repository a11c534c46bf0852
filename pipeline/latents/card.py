"""The card of an exported data set, README.md as the Hugging Face Hub shows it: what the rows are, how made.

What a folder's footers say came from whoever wrote them: in the card it is text, never markup or YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from pipeline.config import LABEL_PREFIX
from pipeline.printing import printable

MAX_TEXT = 200  # characters of a value
# All that markdown or HTML may take for more than text.
MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|~=:@$^])")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
COLUMNS = {
    "key": "name of the source image; with `shard` and `face` it is a row's own",
    "shard": "file name of the shard that the image was in",
    "latent": "W+ latent, one list for each style vector",
    "latents_by_step": "the latents of every step",
    "direction": "along which the latent was edited",
    "strength": "of the edit",
    "mse": "a value for each step, and so are `psnr`, `ms_ssim`, `lpips` and `identity` where they are",
    "quad": "where the face is in its photo, in pixels; `landmarks` likewise",
    "aligned_image": "what the encoder saw",
    "reconstruction": "what the generator draws of the latent",
}


@dataclass(frozen=True)
class Story:
    """What a card tells."""

    footer: Mapping[str, Any]  # what all files share
    n_by_status: Mapping[str, int]  # of the run
    n_rows: int  # exported
    where: str | None  # which of them, if not all
    columns: Sequence[str]
    latent_shape: tuple[int, ...]
    medians: Mapping[str, tuple[float, float]]  # of metrics, at the first step and at the one kept


def card(story: Story) -> str:
    """The README.md of a data set."""
    parts = [_front(story), _what(story), _columns(story), _how(story), _quality(story), _rights()]
    return "\n".join(part for part in parts if part)


def text(value: Any) -> str:
    """Any value as text of one line in markdown."""
    words = printable(value if isinstance(value, str) else json.dumps(value, default=str))
    words = words if len(words) <= MAX_TEXT else f"{words[:MAX_TEXT]}…"
    marked = "".join(ENTITIES.get(letter, letter) for letter in MARKUP.sub(r"\\\1", words))
    return marked.strip()


def _front(story: Story) -> str:
    """YAML: nothing in it but our own words and numbers."""
    size = next((name for most, name in SIZES if story.n_rows < most), "n>1M")
    return f"""---
pretty_name: StyleGAN latents
license: unknown
size_categories:
- {size}
tags:
- stylegan
- gan-inversion
- latents
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---
"""


def _what(story: Story) -> str:
    is_edited = "direction" in story.columns
    made = "edited along directions" if is_edited else "found by inversion of photos"
    n_styles, w_dim = (*story.latent_shape, 0, 0)[:2]
    which = "" if story.where is None else f" They are those with {text(story.where)}."
    n = f"{story.n_rows:,} latent{'' if story.n_rows == 1 else 's'}"
    return f"""# StyleGAN latents

{n} of {n_styles} x {w_dim} numbers, {made} with restyle-batch
([ReStyle](https://arxiv.org/abs/2104.02699)).{which}

```python
from datasets import load_dataset

rows = load_dataset("USER/NAME", split="train")   # or the path of this folder
w_plus = rows.with_format("torch", columns=["latent"])[:]["latent"]   # [N, {n_styles}, {w_dim}]
{_pictures(story)}```
"""


def _pictures(story: Story) -> str:
    shown = [name for name in ("aligned_image", "reconstruction") if name in story.columns]
    return f'picture = rows[0]["{shown[-1]}"]   # a PIL image\n' if shown else ""


def _columns(story: Story) -> str:
    rows = [(name, what) for name, what in COLUMNS.items() if name in story.columns]
    labels = [n for n in story.columns if n.startswith(LABEL_PREFIX)]
    table = _table(["column", ""], [(f"`{name}`", what) for name, what in rows])
    named = f"\nLabels: {', '.join(map(text, labels))}.\n" if labels else ""
    return f"## Columns\n\n{table}{named}"


def _how(story: Story) -> str:
    """The model and the settings of the run."""
    footer = story.footer
    if not footer:
        return ""
    names = {name: PurePath(str(footer[name])).name for name in MODELS if footer.get(name)}
    rows = [(name, text(value)) for name, value in names.items()]
    rows += [(text(name), text(value)) for name, value in footer.get("identity", {}).items()]
    rows += [(text(name), text(value)) for name, value in footer.get("versions", {}).items()]
    told = text(footer.get("fingerprint", ""))
    return f"## How they were made\n\nFingerprint of the run: {told}\n\n{_table(['', ''], rows)}"


MODELS = ("model", "then", "generator")


def _quality(story: Story) -> str:
    counts = [(text(name), f"{n:,}") for name, n in sorted(story.n_by_status.items())]
    found = ""
    if counts:
        found = (
            f"Rows of the run by status; those that are ok are here.\n\n{_table(['', ''], counts)}"
        )
    measured = [
        (text(name), "" if np.isnan(first) else f"{first:.4g}", f"{last:.4g}")
        for name, (first, last) in story.medians.items()
        if not np.isnan(last)
    ]
    if measured:
        head = ["median of the rows", "first step", "the step that is kept"]
        found += f"\n{_table(head, measured)}"
    return f"## Quality\n\n{found}" if found else ""


def _rights() -> str:
    return """## Licence

**Fill this in, and `license` at the top.** Latents and pictures are made from the photos and by the model,
so that the terms of both hold. Weights trained on FFHQ, and NVIDIA's own, are for use that is not commercial.
Faces are personal data: publish what the people in the photos, or the licence of the photos, allow.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
