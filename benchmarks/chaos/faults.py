"""One function a fault: injects it into a job at random moments and lets the run come to its end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.chaos.processes import descendants, kill, named, wait_until_gone
from benchmarks.chaos.world import Job, World, n_committed

ACTOR = (b"ray::InversionActor",)
CPU_WORKER = (b"ray::_prepare_all", b"ray::IDLE")
# Ray's own: idle, they try for a minute to tell their dead head why they end.
AGENTS = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
CONTINUES = "run the same command again to resume"


@dataclass
class Tally:
    """What was done to a run, and what was wrong with how it took it."""

    n_injected: int = 0
    n_jobs: int = 0
    complaints: list[str] | None = None
    slowest_s: float | None = None  # to end after a signal

    def complain(self, what: str) -> None:
        self.complaints = [*(self.complaints or []), what]


@dataclass
class Trial:
    """One run under one fault."""

    world: World
    out: Path
    times: int  # how often the fault is to be injected
    chance: random.Random
    tally: Tally
    respite_s: float  # at most, between what a fault waits for and the fault

    def start(self, *options: str, **named: str) -> Job:
        self.tally.n_jobs += 1
        return self.world.start(self.out, *options, **named)  # type: ignore[arg-type]

    def wait_for_shards(self, job: Job, n: int) -> bool:
        """Until n more shards are there and a random moment has passed; False where the job ended."""
        goal = n_committed(self.out) + n
        while n_committed(self.out) < goal:
            if job.process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(self.chance.uniform(0, self.respite_s))
        return job.process.poll() is None

    def each(self) -> int:
        """Shards between two faults, so that all fit into one run."""
        return max(1, self.world.n_shards // (self.times + 1) - 1)

    def end(self, job: Job, *wanted: int) -> None:
        status = job.finish()
        if status not in (wanted or (0,)):
            self.tally.complain(f"status {status}, not {wanted or 0}: {job.text[-500:]}")


def _kill_workers(trial: Trial, names: tuple[bytes, ...]) -> None:
    job = trial.start()
    while trial.tally.n_injected < trial.times and trial.wait_for_shards(job, trial.each()):
        below = descendants(job.process.pid)
        victims = [pid for pid in below if named(pid, *names)]
        if victims:
            kill([trial.chance.choice(victims)])
            trial.tally.n_injected += 1
    trial.end(job)


def actor(trial: Trial) -> None:
    """SIGKILL of an actor."""
    _kill_workers(trial, ACTOR)


def cpu_worker(trial: Trial) -> None:
    """SIGKILL of a CPU worker."""
    _kill_workers(trial, CPU_WORKER)


def driver(trial: Trial) -> None:
    """SIGKILL of the driver, the same command again."""
    for _ in range(trial.times):
        # Somewhere in Ray's start as well as between two shards.
        _kill_driver(trial, 0, 6)
    trial.end(trial.start())


def _kill_driver(trial: Trial, soonest_s: float, latest_s: float) -> None:
    job = trial.start()
    time.sleep(trial.chance.uniform(soonest_s, latest_s))
    if not trial.wait_for_shards(job, trial.chance.randrange(trial.each() + 1)):
        return
    below = [pid for pid in descendants(job.process.pid) if not named(pid, *AGENTS)]
    kill([job.process.pid])
    trial.tally.n_injected += 1
    job.process.wait()
    if left := wait_until_gone(below):
        trial.tally.complain(f"{len(left)} processes outlived the driver")
        kill(left)


def _stop(trial: Trial, number: signal.Signals, send: Callable) -> None:
    job = trial.start()
    time.sleep(trial.chance.uniform(2, 8))  # before, Python itself is still starting
    if not trial.wait_for_shards(job, trial.chance.randrange(trial.each() + 1)):
        return
    below = descendants(job.process.pid)
    begin = time.monotonic()
    send(job.process.pid, number)
    trial.tally.n_injected += 1
    # The same to a shell. In a job's last second, while Ray ends, there is no handler.
    trial.end(job, 128 + number, -number)
    trial.tally.slowest_s = max(trial.tally.slowest_s or 0.0, time.monotonic() - begin)
    is_over = n_committed(trial.out) == trial.world.n_shards
    if CONTINUES not in job.text and not is_over:
        trial.tally.complain(f"does not say how to continue: {job.text[-500:]}")
    if left := wait_until_gone(below, 10.0):
        trial.tally.complain(f"{len(left)} processes outlived the job")
        kill(left)


def sigterm(trial: Trial) -> None:
    """SIGTERM, the same command again."""
    for _ in range(trial.times):
        _stop(trial, signal.SIGTERM, os.kill)
    trial.end(trial.start())


def ctrl_c(trial: Trial) -> None:
    """Ctrl-C (SIGINT to the whole group), the same command again."""
    for _ in range(trial.times):
        _stop(trial, signal.SIGINT, os.killpg)
    trial.end(trial.start())


def in_turn(trial: Trial) -> None:
    """SIGTERM, Ctrl-C and SIGKILL one after the other, the same command again after each."""
    n_turns, trial = trial.times, replace(trial, times=3 * trial.times)
    for _ in range(n_turns):
        _stop(trial, signal.SIGTERM, os.kill)
        _stop(trial, signal.SIGINT, os.killpg)
        _kill_driver(trial, 0, 1)
    trial.end(trial.start())


def two_at_once(trial: Trial) -> None:
    """Two runs into one folder at once."""
    first = trial.start()
    trial.wait_for_shards(first, 1)
    second = trial.start()
    trial.tally.n_injected += 1
    trial.end(first)
    trial.end(second)
    if "is writing to the same folder" not in second.text:
        trial.tally.complain("the second run does not say that there is a first")


def clock(trial: Trial) -> None:
    """A wall clock that jumps by up to a day every 2 s, in every process."""
    begin = time.monotonic()
    trial.end(trial.start(site="clock"))
    trial.tally.n_injected += int((time.monotonic() - begin) / 2)
