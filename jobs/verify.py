"""``restyle verify``: read every row again and check it."""

from __future__ import annotations

import sys

import click


@click.command(epilog="Example: restyle verify latents/")
@click.argument("latents")
def verify(latents: str) -> None:
    """Check a LATENTS folder: row counts, finite latents, one fingerprint, no row twice, no shard missing.

    Exits with status 1 and a list where something is wrong.
    """
    from tqdm import tqdm

    from pipeline.engine import audit

    problems, n_rows, n_files = [], 0, 0
    names = audit.files(latents)
    for audited in tqdm(audit.verify(latents, names), total=len(names), unit="file", disable=None):
        problems += audited.problems
        n_rows += audited.n_rows
        n_files += 1
    problems += audit.missing(latents)
    for problem in problems:
        click.echo(problem)
    click.echo(f"{n_files} files, {n_rows} rows, {len(problems)} problems")
    if problems:
        sys.exit(1)
