"""The Ray cluster of a run: joined where it is, or started here for the time of the run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from pipeline.config import ClusterConfig
from pipeline.errors import ConfigError

CONNECT_TIMEOUT_S = 10.0


def require_reachable(address: str | None) -> None:
    """Refuse an address where nobody listens; Ray itself would end the process without an exception."""
    address = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition("://")[2].partition(":")
    if not port.isdigit():
        return  # none, or "auto", which Ray looks up and refuses by itself
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or leave "
        "--address out to run on this machine"
    )


def worker_name() -> str:
    """Node, GPU and process of the worker that asks."""
    context = ray.get_runtime_context()
    gpus = ",".join(map(str, context.get_accelerator_ids().get("GPU", []))) or "none"
    return f"{context.get_node_id()[:8]} gpu {gpus} pid {os.getpid()}"


def gpu_share() -> float:
    """The part of a GPU that the worker was given; 1 where it has a whole one, or several."""
    return min(1.0, ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0))


@contextmanager
def connect(config: ClusterConfig) -> Iterator[None]:
    """Join the Ray cluster at the address, or start one here for the time of the run.

    Raises:
        ConfigError: no cluster at the address.
    """
    # Ray's own logs and usage notes do not belong into the output of a command.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without "local", Ray would join whatever cluster was started last on this machine.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _join(address)
        _restore(handler)  # Ray has put its own
        yield
    finally:
        ray.shutdown()
        _restore(handler)  # and has taken away whatever was there


def _restore(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _away_from_the_users_files() -> Iterator[None]:
    """Within it, Ray takes the folder of this package for the working folder.

    It puts that folder in front of the workers' module path, where a user's ``pipeline.py`` would be run
    in the place of ours. The workers' own working folder stays the user's.
    """
    here, os.path.curdir = os.path.curdir, str(Path(__file__).parents[2])
    try:
        yield
    finally:
        os.path.curdir = here


def _join(address: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _away_from_the_users_files():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address == "local" else None,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:  # the last: another version of Ray
        raise _no_cluster(address, error) from None
    except Exception as error:  # a plain one: its processes did not come up in time
        raise ConfigError(f"Ray did not start here ({error}); run the same command again") from None
    except SystemExit:
        # Ray's handler of SIGTERM leaves without a word; the caller's may have one.
        if callable(handler):
            handler(signal.SIGTERM, None)
        raise
