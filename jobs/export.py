"""``restyle export``: a latent data set in the forms that other code reads."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from jobs import paths
from jobs.printing import say
from jobs.values import Whole


@click.command(epilog="Example: restyle export latents/ --to npy --out latents.npy")
@click.argument("latents", type=paths.FOLDER)
@click.option(
    "--to",
    "form",
    type=click.Choice(["npy", "pt", "pairs", "hf"]),
    required=True,
    help="npy: ReStyle's dictionary of names. pt: one file per image. pairs: shards of images and latents. "
    "hf: a folder for the Hugging Face Hub.",
)
@click.option(
    "--out", required=True, type=paths.FILE, help="latents.npy, a folder, or 'pairs/%06d.tar'."
)
@click.option("--where", help='Only rows such as "identity >= 0.6". Default: all rows that are ok.')
@click.option(
    "--samples",
    type=Whole(min=1),
    default=1000,
    show_default=True,
    help="For pairs and hf: samples per file.",
)
def export(latents: str, form: str, out: str, where: str | None, samples: int) -> None:
    """Write the successfully inverted rows of a LATENTS folder in another form.

    \b
    npy    {name: [n_steps, n_styles, w_dim]}, all steps if the run kept them (--latents all)
    pt     <name>.pt, a tensor [1, n_styles, w_dim]
    pairs  <name>.png aligned or edited, <name>.npy latent, <name>.json metrics and labels; needs a run
           that saved its images (--save-images)
    hf     data/*.parquet with pictures that `datasets` opens as such, and a card, README.md, that tells how
           they were made; the command to upload it is printed

    A name is the key, with _face1 for the second face of an image, _smile+2 for an edit, and ~2 for a key
    that is taken. Existing files are not overwritten.
    """
    from tqdm import tqdm

    from jobs.console import n_of
    from pipeline.errors import ConfigError
    from pipeline.latents import export, hub
    from pipeline.storage import redact

    if "://" in out:
        raise ConfigError(
            f"export writes to this machine, not to {redact(out)}; copy it there afterwards"
        )
    rows = export.open_rows(latents, where)
    with tqdm(total=len(rows), unit="row", disable=None) as bar:
        if form == "npy":
            exported = export.to_npy(rows, out, bar.update)
        elif form == "pt":
            exported = export.to_pt(rows, out, bar.update)
        elif form == "hf":
            exported = hub.to_hub(rows, out, samples, where, bar.update)
        else:
            exported = export.to_pairs(rows, out, samples, bar.update)
    more = f" and {len(exported.paths) - 1} more" if len(exported.paths) > 1 else ""
    say(f"{n_of(exported.n_rows, 'row')} in {exported.paths[0]}{more}")
    if form == "hf":
        say(
            f"read {Path(out, 'README.md')} and fill in its licence, then (after `hf auth login`):",
            f"  hf upload USER/NAME {shlex.quote(out)} . --repo-type dataset --private",
        )
