"""What the commands say of a run before it and after it; jobs/progress.py shows how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jobs.printing import emit, manner, note, say, speed

if TYPE_CHECKING:
    from pipeline.engine.driver import Summary
    from pipeline.engine.run import RunPlan
    from pipeline.shards.label_file import LabelTable

N_LABELS_SHOWN = 30
STAGES = ("read", "align", "invert", "refine", "edit", "tune", "draw", "score", "identity", "write")


def n_of(n: int, noun: str) -> str:
    """Such as ``1 shard`` or ``2 shards``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def print_plan(plan: RunPlan) -> None:
    """What a run would do: how many shards, and the first of them."""
    from pipeline.storage import redact

    say(f"{n_of(len(plan.tasks), 'shard')}, {len(plan.pending)} to do, into {redact(plan.out)}")
    for task in plan.pending[:10]:
        say(f"  {redact(task.source)} -> {task.output}")


def print_inputs(plan: RunPlan) -> None:
    """Photos that are read where they lie, and what was left out beside them; shards that are done again."""
    inputs = plan.inputs
    if inputs.n_photos:
        photos, shards = n_of(inputs.n_photos, "photo"), n_of(inputs.n_photo_shards, "shard")
        say(f"{photos} in {shards}, read where {'it lies' if inputs.n_photos == 1 else 'they lie'}")
    say_unreadable(inputs.extensions)
    say_some(inputs.dangling, "link", "skipped {} to nothing, or to a folder that is read anyway: ")
    say_some(inputs.unreadable, "folder", "warning: skipped {} that cannot be looked into: ")
    say_some(inputs.skipped, "file", "skipped {} without the extension of a photo: ")
    again = "deleting {} of old rows and inverting again: "
    say_some([*plan.found.changed.values()], "file", again)


def say_unreadable(extensions: Mapping[str, int]) -> None:
    """Which photos will not be read with what is installed here, and what to do.

    Args:
        extensions: how many photos have which.
    """
    from pipeline.faces import unsupported

    for extension, count in sorted(extensions.items()):
        if (way := unsupported.way_to_read(extension)) is not None:
            files = n_of(count, f".{extension} file")
            say(f"{files} will not be read with what is installed here: {way}")


def say_some(names: Sequence[str], noun: str, sentence: str) -> None:
    """A sentence about some files, if there are any: with their number in place of {}, then a few names."""
    if names:
        some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        say(sentence.format(n_of(len(names), noun)) + some)


def print_labels(plan: RunPlan) -> None:
    """The columns that labels have in this run, and their types."""
    from pipeline.shards import labels

    columns = [f"{name} {kind}" for name, kind in labels.of_settings(plan.settings).items()]
    if columns:
        more = f" and {len(columns) - N_LABELS_SHOWN} more" if len(columns) > N_LABELS_SHOWN else ""
        say(f"labels: {', '.join(columns[:N_LABELS_SHOWN])}{more}")
    table = getattr(plan.workers, "labels", None)
    if table is not None:
        print_label_file(table)


def print_label_file(table: LabelTable) -> None:
    """How many images a file has labels of, and what of it is not used."""
    say(f"labels of {n_of(len(table.keys), 'key')}: {table.address}")
    if table.left_out:
        say(
            f"left out, because their names or types are none of a label's: {', '.join(table.left_out)}",
            err=True,
        )
    for name, n in table.misfits.items():
        kind = table.types[f"label_{name}"]
        say(f"{name}: {n_of(n, 'value')} left out, because most are of type {kind}", err=True)


def print_found(plan: RunPlan) -> None:
    """Which shards moved since they were done, and which may be copies of such."""
    if moved := plan.found.moved:
        say(
            f"{n_of(len(moved), 'shard')} moved since: taken as finished ({moved[0][0]} -> {moved[0][1]}"
            f"{', ...' if len(moved) > 1 else ''})"
        )
    if unsure := plan.found.unsure:
        note(
            f"warning: {n_of(len(unsure), 'shard')} with the name and size of one that is done, but another "
            f"date ({unsure[0][0]} -> {unsure[0][1]}{', ...' if len(unsure) > 1 else ''}): if these are "
            "copies, their rows come twice; stop, copy them with their dates (cp -p, rsync -t), run again"
        )
    if moved := plan.found.perhaps_moved:
        (old, new), *others = moved
        more = f" (and {len(others)} more like it)" if others else ""
        note(
            f"warning: photos of {old} are done, and {old} is not there any more; {new} has photos of the "
            f"same names{more}: if it is that folder, moved and changed since, their rows come twice; stop, "
            "move it back, or choose another --out"
        )


def print_not_retried(plan: RunPlan) -> None:
    """Which shards have rows that `--retry-failed` would try again, if it reached them."""
    if plan.left:
        note(
            f"warning: {n_of(len(plan.left), 'finished shard')} with crashed or not_finite rows not retried, "
            f"because not named here, or gone ({plan.left[0]}{', ...' if len(plan.left) > 1 else ''}): "
            "those rows stay as they are"
        )


def print_forgotten(urls: list[str], dry_run: bool) -> None:
    """Which shards were taken back."""
    if not urls:
        say(
            "nothing to take back: no such shard was asked for; `restyle status` names some",
            err=True,
        )
        return
    would = "would be " if dry_run else ""
    say(f"{n_of(len(urls), 'shard')} that had been asked for {would}taken back")
    for url in urls[:10]:
        say(f"  {url}")


def warn_of_concurrent_run(plan: RunPlan) -> None:
    """Say so where another run is writing to the same folder."""
    if plan.concurrent_run:
        note(
            f"warning: {plan.concurrent_run} is writing to the same folder now; both will write the same "
            "rows, so one of the two is wasted work"
        )


def warn_of_demo_model(plan: RunPlan, model: str) -> None:
    """Say what the demo's model is for where it is given anything but rendered portraits."""
    if model == "demo" and plan.tasks and not _are_rendered(plan):
        note(
            "note: the demo model only draws rendered portraits; for photos of real faces pass a published "
            "checkpoint with --model (`restyle models` lists them)"
        )


def _are_rendered(plan: RunPlan) -> bool:
    """Whether the first sample brings the vector that it was drawn from, as `restyle portraits` writes it."""
    from pipeline.errors import ShardError
    from pipeline.shards import inputs
    from pipeline.storage import is_remote

    source = plan.tasks[0].source
    if is_remote(source):
        return False
    try:
        first = next(inputs.samples(source, frozenset({"npy"})), None)
    except ShardError:  # the run will say more
        return False
    return first is not None and "npy" in first.fields


def print_summary(plan: RunPlan, summary: Summary, seconds: float) -> None:
    """The last lines: rows by status, time by stage, unfinished shards, where the output is."""
    if manner.as_json:
        _emit_summary(plan, summary, seconds)
        return
    n_before = len(plan.tasks) - len(plan.pending)
    if n_before:
        say(f"{n_before} of {len(plan.tasks)} shards were finished before")
    if summary.n_shards:
        rows = ", ".join(f"{n} {status}" for status, n in sorted(summary.n_by_status.items()))
        say(
            f"{n_of(summary.n_shards, 'shard')}, {n_of(summary.n_samples, 'sample')}, "
            f"{n_of(summary.n_rows, 'row')} ({rows}) in {seconds:.1f} s, {speed(summary.n_rows, seconds)}"
        )
        stages = [stage for stage in STAGES if stage in summary.seconds]
        busy = ", ".join(f"{stage} {summary.seconds[stage]:.1f} s" for stage in stages)
        parallel = " (align and identity in parallel on CPU workers)" if "align" in stages else ""
        say(f"time in each stage: {busy}{parallel}")
    for execution, n in summary.executions.most_common():
        say(f"the model ran {execution} ({n_of(n, 'shard')})")
    from pipeline.engine import audit, stopwatch
    from pipeline.storage import redact

    if waited := stopwatch.sentence(summary.seconds):
        say(waited)
    if got_worse := audit.worse(summary.n_worse, summary.n_by_status["ok"]):
        say(f"note: {got_worse}")

    for task, error in summary.failures:
        say(f"unfinished: {redact(task.source)}: {error}", err=True)
    if summary.failures:
        failed = n_of(len(summary.failures), "shard")
        say(f"{failed} failed; fix the cause and run the same command again", err=True)
    say(f"latents: {redact(plan.out)}", last=True)


def _emit_summary(plan: RunPlan, summary: Summary, seconds: float) -> None:
    from pipeline.storage import redact

    emit(
        {
            "event": "summary",
            "out": redact(plan.out),
            "n_asked": len(plan.tasks),
            "n_before": len(plan.tasks) - len(plan.pending),
            "n_done": summary.n_shards,
            "n_samples": summary.n_samples,
            "n_rows": summary.n_rows,
            "rows": dict(summary.n_by_status),
            "n_worse": summary.n_worse,
            "n_retries": summary.n_retries,
            "n_deaths": summary.n_deaths,
            "busy_s": {stage: round(busy, 3) for stage, busy in summary.seconds.items()},
            "seconds": round(seconds, 3),
            "failures": [
                {"shard": redact(task.source), "error": error} for task, error in summary.failures
            ],
        }
    )
