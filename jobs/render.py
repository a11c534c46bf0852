"""``restyle render``: latents as pictures, or pasted back into their photos."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jobs import flags, paths
from jobs.printing import say

if TYPE_CHECKING:
    from pipeline.editing.render import RenderConfig
    from pipeline.editing.tuned import Tunings


@flags.command(
    "pipeline.editing.render:RenderConfig",
    epilog="Example: restyle render edited/ --out pictures/ --paste-back",
)
@click.argument("latents", type=paths.FOLDER)
@flags.out("Folder for the pictures, or a .gif, .webp or .mp4 of which they are the frames.")
def render(latents: str, out: str, **options: Any) -> None:
    """Draw the rows of a LATENTS folder, or of an edited one, at the generator's full size.

    A picture is named like its key, KEY.jpg, in a folder of its shard where two shards have the same key.
    Pictures that exist already stay, so running the same command again resumes one that was stopped.
    Photos to paste into are read from the shards again. With --video all rows of a clip become one .mp4.
    """
    from jobs.console import n_of
    from pipeline.editing import render
    from pipeline.errors import ConfigError

    config = flags.build(render.RenderConfig, options)
    if config.video:
        _clip(latents, out, config)
        return
    if config.clip is not None:
        raise ConfigError("--clip is for the frames of a clip; add --video")
    with tqdm(unit="row", desc="drawing", delay=0.5) as bar:
        done = render.render(latents, out, config, bar.update)
    existing = f", {done.n_there} existed before" if done.n_there else ""
    without = f", {n_of(done.n_without, 'row')} without a latent" if done.n_without else ""
    first = f" (the first is {done.first})" if done.first is not None else ""
    say(f"{n_of(done.n_written, 'picture')}{existing}{without}: {out}{first}")
    if done.replaced:
        say(f"note: faces were replaced by the drawn ones: {done.replaced}")
    if done.pivots is not None and (done.tunings.n_tuned or done.tunings.n_there):
        say(_told(done.tunings, done.pivots.folder))
    if done.keys_missing:
        missing = ", ".join(sorted(done.keys_missing)[:10])
        say(f"not found: {missing}; keys are such as {', '.join(done.keys_seen)}", err=True)
        sys.exit(1)


def _clip(latents: str, out: str, config: RenderConfig) -> None:
    """Draw a clip, and say what it is made of."""
    from jobs.console import n_of
    from pipeline.editing import clip_rendering

    with tqdm(unit="frame", desc="drawing") as bar:
        done = clip_rendering.render_clip(latents, out, config, bar.update)
    sound = f"sound of {done.sound}"
    if done.sound is None:
        sound = "no sound: " + (f"{config.clip} has none" if config.clip else "pass --clip FILE")
    say(f"{n_of(done.n_written, 'frame')}, {sound}: {out}")
    if done.n_without:
        say(f"note: {n_of(done.n_without, 'frame')} without a latent are as they were")
    if done.n_undecodable:
        say(f"note: {n_of(done.n_undecodable, 'frame')} that cannot be decoded are left out")
    if done.replaced:
        say(f"note: faces were replaced by the drawn ones: {done.replaced}")


def _told(tunings: Tunings, folder: str) -> str:
    """What the tuning of the generator brought, and where it is kept."""
    from jobs.console import n_of

    parts = []
    if n := tunings.n_tuned:
        before, after = sum(tunings.before) / n, sum(tunings.after) / n
        parts.append(
            f"tuned for {n_of(n, 'row')} in {tunings.seconds:.1f} s, mean MSE {before:.5f} -> {after:.5f}"
        )
    if tunings.n_there:
        parts.append(f"{n_of(tunings.n_there, 'row')} tuned before")
    return f"generator: {', '.join(parts)}: {folder}"
