"""``restyle status``: how far a run is, from its files alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from jobs import paths
from jobs.printing import say, speed

if TYPE_CHECKING:
    from pipeline.engine.progress import Progress

N_LISTED = 10
MAX_SPAN_S = 3e9  # a hundred years


@click.command(epilog="Example: restyle status latents/")
@click.argument("latents", type=paths.FOLDER)
def status(latents: str) -> None:
    """Show the progress of a LATENTS folder's run: shards done, running and failed, rows by status, speed.

    It only reads files: it needs no Ray, and works during a run or after it, on any machine.
    """
    from pipeline.engine import audit

    result = audit.status(latents)
    begun = result.run.begun if result.run is not None and result.is_running else []
    failures = [] if result.run is None else result.run.failures
    missing = set(result.missing)
    # Not those that were taken back since, or done.
    failed = {f["shard"]: f["error"] for f in failures if f["shard"] in missing}
    n_failed = 0 if result.run is None else result.run.n_failed - len(failures) + len(failed)
    say(
        f"shards: {result.n_done} of {result.n_asked} done, {len(begun)} running, {n_failed} failed"
    )
    say(f"rows:   {result.n_rows} of {result.n_samples} samples")
    for name, n in sorted(result.n_by_status.items()):
        say(f"  {name:16} {n:>10} {n / max(1, result.n_rows):7.1%}")
    if got_worse := audit.worse(result.n_worse, result.n_by_status["ok"]):
        say(f"note:   {got_worse}")
    if result.run is not None:
        _print_run(result.run, result.is_running)
    for url, error in list(failed.items())[:N_LISTED]:
        say(f"failed: {url}: {error}")
    _print_some("not done", [url for url in result.missing if url not in failed])


def _print_some(label: str, urls: list[str]) -> None:
    for url in urls[:N_LISTED]:
        say(f"{label}: {url}")
    if len(urls) > N_LISTED:
        say(f"{label}: {len(urls) - N_LISTED} more")


def _print_run(run: Progress, is_running: bool) -> None:
    """What the last run says of itself."""
    from jobs.console import n_of
    from pipeline.engine import stopwatch

    waited = stopwatch.sentence(run.busy_s)
    rate = speed(run.n_rows, run.seconds, "image")
    if not is_running:
        ended = run.state if run.state != "running" else "stopped without notice"
        say(f"run:    {ended}, started {run.started}, {n_of(run.n_done, 'shard')}, {rate}")
        if waited:
            say(f"        {waited}")
        if run.state != "finished":
            say("        run the same `restyle invert` command again to resume")
        return
    remaining = (
        "no estimate yet" if run.seconds_left is None else f"about {_span(run.seconds_left)} left"
    )
    say(f"run:    running for {_span(run.seconds)} ({run.by}), {rate}, {remaining}")
    if waited:
        say(f"        {waited}")
    for item in run.begun[:N_LISTED]:
        say(f"  {item.shard}: {n_of(item.n_rows, 'row')}, {_span(item.seconds)}, on {item.worker}")
    if len(run.begun) > N_LISTED:
        say(f"  and {len(run.begun) - N_LISTED} more")


def _span(seconds: float) -> str:
    """1:02:03 of a duration."""
    return str(timedelta(seconds=round(min(seconds, MAX_SPAN_S))))
