"""``restyle verify``: read every row again and check it."""

from __future__ import annotations

import sys

import click

from jobs import paths
from jobs.printing import say


@click.command(epilog="Example: restyle verify latents/")
@click.argument("latents", type=paths.FOLDER)
def verify(latents: str) -> None:
    """Check a LATENTS folder: row counts, finite latents, one fingerprint, no row twice, no shard missing.

    If something is wrong, it is listed, and the exit status is 1.
    """
    from tqdm import tqdm

    from jobs.console import n_of
    from pipeline.engine import audit

    problems, n_rows, n_files = [], 0, 0
    n_ok = n_worse = 0
    names = audit.files(latents)
    for audited in tqdm(audit.verify(latents, names), total=len(names), unit="file", disable=None):
        problems += audited.problems
        n_rows += audited.n_rows
        n_ok, n_worse = n_ok + audited.n_ok, n_worse + audited.n_worse
        n_files += 1
    problems += audit.missing(latents)
    for problem in problems:
        say(problem)
    totals = ((n_files, "file"), (n_rows, "row"), (len(problems), "problem"))
    say(", ".join(n_of(n, noun) for n, noun in totals))
    if got_worse := audit.worse(n_worse, n_ok):
        say(f"note: {got_worse}")
    if problems:
        sys.exit(1)
