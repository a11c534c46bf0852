"""Faults of the output's disk: full, and read-only. A small file system of its own, which needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.chaos.faults import Trial

BLOCK = 4096
PART = 0.3  # of the whole output has room at first
LARGE = 1 << 28


def may_mount() -> bool:
    return (
        os.geteuid() == 0
        and not subprocess.run(
            ["unshare", "-m", "true"], capture_output=True, check=False
        ).returncode
    )


@contextmanager
def _disk(trial: Trial, options: str) -> Iterator[None]:
    trial.out.mkdir()
    _mount(trial, options)
    try:
        yield
        # What lies there is compared after the disk is gone.
        kept = trial.out.with_name(f"{trial.out.name}.kept")
        subprocess.run(["cp", "-r", str(trial.out), str(kept)], check=True)
    finally:
        subprocess.run(["umount", str(trial.out)], check=True)
    trial.out.rmdir()
    kept.rename(trial.out)


def _mount(trial: Trial, options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(trial.out)]
    subprocess.run(words, check=True)


def full(trial: Trial) -> None:
    """The output's disk is full; then it is not, and the same command again."""
    whole = trial.world.folder.glob("undisturbed/*.parquet")
    n_blocks = int(PART * sum(-(-path.stat().st_size // BLOCK) for path in whole))
    with _disk(trial, f"nr_blocks={n_blocks}"):
        for _ in range(trial.times):
            # Some more each time: full at another moment.
            n_blocks += trial.chance.randrange(1, 1 + n_blocks // 4)
            _mount(trial, f"remount,nr_blocks={n_blocks}")
            job = trial.start()
            trial.end(job, 1)
            trial.tally.n_injected += 1
            if "No space left" not in job.text:
                trial.tally.complain(f"does not say that the disk is full: {job.text[-500:]}")
        _mount(trial, f"remount,size={LARGE}")
        trial.end(trial.start())


def read_only(trial: Trial) -> None:
    """The output becomes read-only during the run; then it is not, and the same command again."""
    with _disk(trial, f"size={LARGE}"):
        for _ in range(trial.times):
            job = trial.start()
            # One at least: before, the job would be refused at once, with status 2.
            if not trial.wait_for_shards(job, 1 + trial.chance.randrange(trial.each())):
                break
            _mount_when_idle(trial, "remount,ro")
            trial.tally.n_injected += 1
            trial.end(job, 1)
            if "Read-only" not in job.text:
                trial.tally.complain(f"does not say what is wrong: {job.text[-500:]}")
            _mount(trial, "remount,rw")
        trial.end(trial.start())


def _mount_when_idle(trial: Trial, options: str) -> None:
    """The kernel refuses while a file is open for writing; between two shards none is."""
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(trial.out)]
    while subprocess.run(words, capture_output=True, check=False).returncode:
        continue
