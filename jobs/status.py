"""``restyle status``: how far a run is, from its files alone."""

from __future__ import annotations

import click


@click.command(epilog="Example: restyle status latents/")
@click.argument("latents")
def status(latents: str) -> None:
    """Shards done and rows by status of a LATENTS folder. Needs no Ray and may run beside a run."""
    from pipeline import audit

    found = audit.status(latents)
    click.echo(f"shards: {found.n_done} of {found.n_asked} done")
    click.echo(f"rows:   {found.n_rows} of {found.n_samples} samples")
    for name, n in sorted(found.n_by_status.items()):
        click.echo(f"  {name:16} {n:>10} {n / max(1, found.n_rows):7.1%}")
    for url in found.missing[:10]:
        click.echo(f"not done: {url}")
    if len(found.missing) > 10:
        click.echo(f"not done: {len(found.missing) - 10} more")
