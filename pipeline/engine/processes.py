"""CPU tasks in processes of this machine, each for itself: the death of one costs its own chunk alone.

Python's `ProcessPoolExecutor` breaks as a whole where one process dies, so that photos would be accused that
only ran beside the one at fault; and `multiprocessing` either forks beside torch's threads or runs the
caller's script again. These processes start afresh, and import what a task names: dlib, never torch.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.errors import ShardError

PROGRAM = """import sys
sys.path[:] = sys.argv[2:]
from pipeline.engine.processes import serve
serve(int(sys.argv[1]))"""
# Of 1000: where the kernel is out of memory, a process that costs one chunk goes before the run.
OUT_OF_MEMORY_SCORE = "500"


class _Death(Exception):
    """The process died that was at a call."""


class ProcessTasks:
    """Calls are made by processes that start when there is work for them. Use as a context."""

    def __init__(self, n: int) -> None:
        """n: processes alive at once, at most."""
        self._threads = ThreadPoolExecutor(n, "process")  # each waits for the process that it uses
        self._lock, self._is_closed = Lock(), False
        self._idle: list[_Process] = []
        self._all = set[_Process]()

    def __enter__(self) -> ProcessTasks:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the processes, whatever they are at; calls that wait for an answer get an error."""
        with self._lock:
            self._is_closed = True
            processes = list(self._all)
        for process in processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Make a call, once a process is free; the function is found there by its name."""
        return self._threads.submit(self._call, function, arguments)

    def answer(self, reference: Future[Any]) -> Any:
        """The answer of a call; None where its process died.

        Raises:
            ShardError: no process could be started.
        """
        try:
            return reference.result()
        except _Death:
            return None

    def again(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same of a call that is made now."""
        return self.answer(self.submit(function, *arguments))

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process = self._taken()
        try:
            answer = process.call(function, arguments)
        except _Death:
            with self._lock:
                self._all.discard(process)
            raise
        with self._lock:
            self._idle.append(process)
        if isinstance(answer, _Raised):
            raise answer.error
        return answer

    def _taken(self) -> _Process:
        with self._lock:
            if self._is_closed:
                raise ShardError("the run was stopped")
            if self._idle:
                return self._idle.pop()
            process = _Process()
            self._all.add(process)
            return process


class _Process:
    """One process, which is sent a call and answers it."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        nowhere = subprocess.DEVNULL
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno()), *sys.path],
                stdin=nowhere,
                stdout=nowhere,
                stderr=nowhere,  # where libraries say what becomes a row
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for the run, which ends its processes
            )
        self._has_begun = False

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """What the function returns, or a `_Raised`.

        Raises:
            _Death: the process died.
            ShardError: it has never lived.
        """
        try:
            if not self._has_begun:
                self._has_begun = self._pipe.recv()
            self._pipe.send((function, arguments))
            return self._pipe.recv()
        except (EOFError, OSError):
            self.kill()
            if self._has_begun:
                raise _Death from None
            raise ShardError(
                f"a process that decodes photos did not start (status {self._process.returncode}); run the "
                "same command again, or pass --executor ray"
            ) from None

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()


class _Raised:
    """Stands where an answer would be."""

    def __init__(self, error: Exception) -> None:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # of a library, and made for its own process
            error = RuntimeError(f"{type(error).__name__}: {error}")
        self.error = error


def serve(descriptor: int) -> None:
    """Answer calls until whoever sends them is gone; the other end of a `_Process`."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE)
    with Connection(descriptor) as pipe, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(True)
        while True:
            function, arguments = pipe.recv()
            try:
                answer = function(*arguments)
            except Exception as error:
                answer = _Raised(error)
            pipe.send(answer)
