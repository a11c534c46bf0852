"""What a run leaves behind for those who watch it: `_run/progress.json`, and of each run a log of lines and
its last heartbeat.

None is believed by the pipeline: what is done is what lies in the folder. So a log that cannot be
written (a full disk) never ends a run. Durations are of the monotonic clock; the wall clock only dates
lines and tells whether a heartbeat is fresh.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.config import RUN_FOLDER
from pipeline.engine.events import tell
from pipeline.errors import ConfigError
from pipeline.storage.folder import Folder
from pipeline.storage.urls import redacted_message

PROGRESS = f"{RUN_FOLDER}/progress.json"
LOGS = f"{RUN_FOLDER}/logs"
RUNS = f"{RUN_FOLDER}/runs"
BEAT_S = 5.0  # how often progress is written
FRESH_S = 20.0  # a running job's last sign is younger
UPLOAD_S = 60.0  # in an object store, how often new lines become an object
LAST_WAITS_S = (0.5, 1.0, 2.0)
MAX_AMOUNT = 1e15  # rows, seconds, or what else a record counts
MAX_LISTED = 1000  # failures in progress.json; the log holds all


@dataclass(frozen=True)
class ActiveShard:
    """A shard that a worker is at."""

    shard: str
    worker: str
    n_rows: int  # so far
    seconds: float  # since it was given


@dataclass(frozen=True)
class Progress:
    """A run as it was at its last heartbeat."""

    run: str  # its own name, also of its log
    fingerprint: str = ""  # of the settings that it writes rows with
    # "running", "finished", "unfinished" (shards failed), "stopped" (by a signal or an error)
    state: str = "running"
    started: str = ""  # UTC
    written: float = 0.0  # seconds of the wall clock
    by: str = ""  # machine and process of the driver
    seconds: float = 0.0  # since it started
    n_asked: int = 0
    n_before: int = 0  # shards that were done when it started
    n_done: int = 0  # shards by this run
    n_rows: int = 0  # by this run, those of begun shards among them
    n_by_status: dict[str, int] = field(default_factory=dict)  # rows of shards done by this run
    n_samples: int = 0  # of shards done by this run
    busy_s: dict[str, float] = field(default_factory=dict)  # by stage, added up over the workers
    workers: list[str] = field(default_factory=list)  # that finished a shard
    n_retries: int = 0
    n_deaths: int = 0  # of workers
    begun: list[ActiveShard] = field(default_factory=list)
    n_failed: int = 0  # shards given up
    failures: list[dict[str, str]] = field(default_factory=list)  # the first: shard and error

    @property
    def rows_per_s(self) -> float:
        return self.n_rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """By the rows so far, each shard left taken for an average one; None before the first is done."""
        n_rows_done = sum(self.n_by_status.values())
        if not (self.n_done and n_rows_done and self.rows_per_s):
            return None
        n_left = self.n_asked - self.n_before - self.n_done - self.n_failed
        n_rows_begun = self.n_rows - n_rows_done
        return max(0.0, n_left * n_rows_done / self.n_done - n_rows_begun) / self.rows_per_s

    def is_alive(self, now: float | None = None) -> bool:
        """Whether its last sign is fresh. A clock that was set meanwhile may say no until the next."""
        now = time.time() if now is None else now
        return self.state == "running" and abs(now - self.written) < FRESH_S


def read(out: str) -> Progress | None:
    """The last heartbeat in a folder; None where there is none, or none that this version can read."""
    try:
        return _read(Folder(out), PROGRESS)
    except ConfigError:
        return None


def runs(out: str) -> list[Progress]:
    """The last heartbeat of every run, of one that goes on or was killed only if no other came after it."""
    try:
        folder = Folder(out)
        names = [f"{RUNS}/{name}" for name in folder.names(RUNS)]
    except ConfigError:
        return []
    heartbeats = [_read(folder, name) for name in [PROGRESS, *names]]
    return list(
        {progress.run: progress for progress in heartbeats if progress is not None}.values()
    )


def _read(folder: Folder, name: str) -> Progress | None:
    try:
        record = folder.read_json(name)
        begun = [ActiveShard(**item) for item in record.pop("begun", [])]
        blank = {k: v for k, v in vars(Progress("")).items() if k != "begun"}
        fields = {k: v for k, v in record.items() if k in blank and _is_like(k, v, blank[k])}
        return Progress(**fields, begun=[item for item in begun if _is_right(item)])
    except Exception:  # of whatever library the store is reached by
        return None


def _is_like(name: str, value: Any, blank: Any) -> bool:
    """Whether an entry is what this version writes; without it, the rest still tells something."""
    if name == "failures":
        kept = [item for item in value if {"shard", "error"} <= item.keys()]
        return kept == value and all(isinstance(t, str) for f in kept for t in f.values())
    if isinstance(blank, list):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(blank, dict):
        return isinstance(value, dict) and all(map(_is_amount, value.values()))
    return _is_amount(value) if isinstance(blank, int | float) else isinstance(value, type(blank))


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_AMOUNT


def _is_right(item: ActiveShard) -> bool:
    are_texts = isinstance(item.shard, str) and isinstance(item.worker, str)
    return are_texts and _is_amount(item.n_rows) and _is_amount(item.seconds)


def concurrent_run(out: str, run: str = "") -> Progress | None:
    """Another run that is writing to the folder now."""
    other = read(out)
    return other if other is not None and other.run != run and other.is_alive() else None


class RunLog:
    """Writes all of it for one run. Use as a context: an exception marks the run as stopped."""

    def __init__(
        self,
        out: str,
        n_asked: int,
        n_before: int,
        fingerprint: str = "",
        last_waits_s: Sequence[float] = LAST_WAITS_S,  # between the tries to write how a run ended
    ) -> None:
        self._folder, self._last_waits_s = Folder(out), last_waits_s
        now = datetime.now(UTC)
        self.run = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        self._lines: list[str] = []
        self._n_parts = 0
        self._start = time.monotonic()
        self._next_beat, self._next_upload = 0.0, self._start + UPLOAD_S
        self._yields = concurrent_run(out, self.run) is not None  # progress.json is another run's
        self._last = Progress(
            self.run,
            fingerprint,
            started=f"{now:%Y-%m-%dT%H:%M:%SZ}",
            by=f"{socket.gethostname()} pid {os.getpid()}",
            n_asked=n_asked,
            n_before=n_before,
        )

    def __enter__(self) -> RunLog:
        self.log("run_started", None, n_asked=self._last.n_asked, n_before=self._last.n_before)
        self.heartbeat(self._last)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, _: Any) -> None:
        state = "unfinished" if self._last.n_failed else "finished"
        state = state if kind is None else "stopped"
        why = (
            ""
            if kind is None
            else f"{kind.__name__}: {redacted_message(error, self._folder.address)}"
        )
        facts = {"error": why[:500]} if why else {}
        done, seconds = self._last.n_done, self._seconds()
        self.log("run_ended", None, state=state, n_done=done, seconds=round(seconds, 1), **facts)
        self._next_beat = self._next_upload = 0.0
        for wait_s in (*self._last_waits_s, 0.0):
            if self.heartbeat(replace(self._last, state=state, begun=[])):
                break
            time.sleep(wait_s)
        _succeeds(lambda: self._folder.write(f"{RUNS}/{self.run}.json", self._content()))

    def log(self, event: str, shard: str | None, **facts: Any) -> None:
        """One line: what happened to which shard (null: to the run)."""
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        line = {"time": stamp, "run": self.run, "event": event, "shard": shard, **facts}
        self._lines.append(json.dumps(line))
        tell(line)

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next_beat

    def blank(self) -> Progress:
        """What does not change from heartbeat to heartbeat, to be filled in."""
        return self._last

    def heartbeat(self, progress: Progress) -> bool:
        """Write progress and the lines since the last time; whether that worked."""
        self._next_beat = time.monotonic() + BEAT_S
        listed = progress.failures[:MAX_LISTED]
        self._last = replace(
            progress, written=time.time(), seconds=self._seconds(), failures=listed
        )
        # Each for itself, in the words of whatever library; the next heartbeat may succeed.
        return all([_succeeds(self._write_lines), _succeeds(self._write_progress)])

    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _write_progress(self) -> None:
        if self._yields:
            self._yields = concurrent_run(self._folder.address, self.run) is not None
        if not self._yields:
            self._folder.write(PROGRESS, self._content())

    def _write_lines(self) -> None:
        if not self._lines:
            return
        text = "".join(f"{line}\n" for line in self._lines)
        name = f"{LOGS}/{self.run}"
        if self._folder.is_local:
            _append(self._folder.at(f"{name}.jsonl"), text.encode())
        elif time.monotonic() >= self._next_upload:
            # An object cannot grow: every minute with lines is one.
            self._folder.write(f"{name}.{self._n_parts:05}.jsonl", text.encode())
            self._n_parts += 1
            self._next_upload = time.monotonic() + UPLOAD_S
        else:
            return
        self._lines = []

    def _content(self) -> bytes:
        return json.dumps(asdict(self._last), indent=1).encode()


def _succeeds(write: Callable[[], None]) -> bool:
    try:
        write()
    except Exception:
        return False
    return True


def _append(path: str, content: bytes) -> None:
    """All of it or nothing: half a line would spoil the log."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        n_written = file.write(content)
        if n_written != len(content):
            file.truncate(size)
            raise OSError(f"{path} took {n_written} of {len(content)} bytes")


@dataclass(frozen=True)
class Throughput:
    """Time of the shards that were timed: all, but for those of a run that was killed and continued."""

    n_samples: int
    n_ok: int
    wall_s: float  # without the start of Ray
    invert_s: float  # of the model alone, added up over the workers
    refine_s: float  # the same of refinement
    n_workers: int  # at most in one run, with those that were replaced
    on_gpu: bool

    @property
    def samples_per_s(self) -> float:
        return self.n_samples / max(self.wall_s, 1e-9)

    @property
    def model_s_per_image(self) -> float:
        """Seconds of one worker's model for one inverted row, all steps and refinement."""
        return (self.invert_s + self.refine_s) / max(1, self.n_ok)

    def seconds_until(self, step: int, n_loop: int) -> float:
        """The same until a step: those of the loop (``n_loop``) are taken to be of one length."""
        if step > n_loop:
            return self.model_s_per_image
        return self.invert_s / max(1, self.n_ok) * step / n_loop


def throughput(out: str, fingerprint: str) -> Throughput | None:
    """All runs of a fingerprint added up; None where there is none (copied without them, or by hand)."""
    timed = [run for run in runs(out) if run.fingerprint == fingerprint and run.n_samples]
    if not timed:
        return None
    workers = [worker for run in timed for worker in run.workers]
    return Throughput(
        n_samples=sum(run.n_samples for run in timed),
        n_ok=sum(run.n_by_status.get("ok", 0) for run in timed),
        wall_s=sum(run.seconds for run in timed),
        invert_s=sum(run.busy_s.get("invert", 0.0) for run in timed),
        refine_s=sum(run.busy_s.get("refine", 0.0) for run in timed),
        n_workers=max(len(run.workers) for run in timed),
        on_gpu=all(" gpu " in worker and " gpu none " not in worker for worker in workers),
    )
