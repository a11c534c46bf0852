"""``restyle learn-direction``: a direction in latent space from labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs import flags, paths
from jobs.printing import say


@flags.command(
    "pipeline.editing.learning:LearnConfig",
    name="learn-direction",
    epilog="Example: restyle learn-direction latents/ --label smile --out smile.safetensors",
)
@click.argument("latents", type=paths.FOLDER)
@flags.flag(
    "--label",
    required=True,
    help="A column of labels: numbers, true and false, or texts.",
)
@flags.flag("--out", required=True, type=paths.FILE, help="The .safetensors file to write.")
@flags.flag("--layers", help="Style vectors that may change, such as 0-3,7. Default: all.")
def learn_direction(latents: str, label: str, out: str, layers: str | None, **options: Any) -> None:
    """Learn the direction of a LABEL from a LATENTS folder: the normal of a linear boundary.

    Labels come from `restyle invert --keep-fields json`, or from a file with --labels. A fifth of the rows
    is held out, and the command reports its accuracy on them. Strength 1 of the direction is one standard
    deviation of the rows.
    """
    from pipeline.errors import ConfigError

    if not out.endswith(".safetensors"):
        better = Path(out).parent / f"{Path(out).stem or 'smile'}.safetensors"
        raise ConfigError(f"a direction is a .safetensors file; pass --out {better}")

    from pipeline.editing.expression import parse_layers
    from pipeline.editing.learning import LearnConfig, learn, save
    from pipeline.storage import outputs

    outputs.writable_file(out, "smile.safetensors")

    chosen = None if layers is None else parse_layers(layers)
    config = flags.build(LearnConfig, options, label=label, layers=chosen)
    learned = learn(latents, config)
    for boundary in [learned.target, *learned.conditions]:
        say(
            f"{boundary.label}: accuracy {boundary.accuracy:.3f} on {boundary.n_test} rows held out, 95 % "
            f"interval {boundary.interval[0]:.3f} to {boundary.interval[1]:.3f}; the baseline, always the "
            f"larger class, has {boundary.majority:.3f} ({boundary.n_train} rows to learn from)"
        )
    if learned.conditions:
        say(f"{learned.remainder:.0%} of the direction remains once the conditions are removed")
    save(out, learned)
    say(f"direction: {out}")
