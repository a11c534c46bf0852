"""``restyle learn-direction``: a direction in latent space from labels."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.options import words


@click.command(
    "learn-direction",
    epilog="Example: restyle learn-direction latents/ --label smile --out smile.safetensors",
)
@click.argument("latents")
@click.option(
    "--label", required=True, help="A label column: of numbers, true and false, or texts."
)
@click.option("--out", required=True, help="The .safetensors file to write.")
@click.option(
    "--condition",
    "conditions",
    default="",
    help="Comma-separated labels that are to stay as they are.",
)
@click.option("--threshold", type=float, help="Numbers above it are a yes. Default: the mean.")
@click.option("--positive", help="Of texts, the one that is a yes.")
@click.option("--layers", help="Style vectors that may change, such as 0-3,7. Default: all.")
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Rows drawn at random where there are more.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def learn_direction(
    latents: str,
    out: str,
    conditions: str,
    layers: str | None,
    **settings: str | int | float | None,
) -> None:
    """Learn the direction of a LABEL from a LATENTS folder: the normal of a linear boundary.

    Labels come from `restyle invert --keep-fields json`. A fifth of the rows is held out, and how many of
    them the boundary tells right is said. Strength 1 of the direction is a standard deviation of the rows.
    """
    from pipeline.errors import ConfigError

    if not out.endswith(".safetensors"):
        better = Path(out).with_suffix(".safetensors")
        raise ConfigError(f"a direction is a .safetensors file; pass --out {better}")

    from pipeline.editing.expression import parse_layers
    from pipeline.editing.learning import LearnConfig, learn, save

    chosen = None if layers is None else parse_layers(layers)
    config = LearnConfig(conditions=words(conditions), layers=chosen, **settings)  # type: ignore[arg-type]
    learned = learn(latents, config)
    for found in [learned.target, *learned.conditions]:
        click.echo(
            f"{found.label}: accuracy {found.accuracy:.3f} on {found.n_test} rows held out, "
            f"{found.majority:.3f} for always the larger class ({found.n_train} rows to learn from)"
        )
    if learned.conditions:
        click.echo(
            f"{learned.remainder:.0%} of the direction is left once the conditions are taken out"
        )
    save(out, learned)
    click.echo(f"direction: {out}")
