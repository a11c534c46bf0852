"""The Ray cluster of a run: joined where it is, or started here for the time of the run."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from pipeline.config import ClusterConfig
from pipeline.engine import private_ray
from pipeline.engine.events import tell
from pipeline.engine.reachable import LOCAL, address_of, no_cluster, require_reachable
from pipeline.errors import ConfigError

AGAIN = "run the same command again"
# What keeps Ray from starting, by a word of its complaint, and what to do.
ADVICE = {
    "home": "HOME is not set; set it to a folder that can be written to, such as HOME=/tmp",
    "getpwuid": "this user has no entry in /etc/passwd; set HOME and USER, such as HOME=/tmp USER=me",
    "af_unix": "the folder for temporary files has too long a name for sockets; set TMPDIR=/tmp",
    "auth_token_path": "RAY_AUTH_TOKEN_PATH names a file that cannot be read or is empty; unset it, or write "
    "a token into it",
    "permission": "set RAY_TMPDIR to a folder that this user can write to",
}


def _not_started(error: BaseException) -> ConfigError:
    """Why Ray did not start on this machine."""
    why = " ".join(str(error).split()).partition(". ")[0][:300]
    advice = next((text for word, text in ADVICE.items() if word in why.lower()), AGAIN)
    return ConfigError(f"Ray did not start here ({why}); {advice}")


@contextmanager
def connect(config: ClusterConfig) -> Iterator[None]:
    """Join the Ray cluster at the address, or start one here for the time of the run.

    Raises:
        ConfigError: no cluster at the address.
    """
    # Ray's own logs and usage notes do not belong into the output of a command.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    handler = signal.getsignal(signal.SIGTERM)
    require_reachable(config.address)
    with ExitStack() as own:
        if address_of(config.address) == LOCAL:
            own.enter_context(private_ray.guarded())
        try:
            tell({"event": "ray_starting", "address": address_of(config.address)})
            _join(config.address)
            _restore(handler)  # Ray has put its own
            yield
        finally:
            tell({"event": "ray_stopping"})
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


def _join(asked: str | None) -> None:
    address = address_of(asked)
    handler = signal.getsignal(signal.SIGTERM)
    ours: dict[str, Any] = {"_node_ip_address": private_ray.LOOPBACK, "include_dashboard": False}
    try:
        with ExitStack() as stack:
            stack.enter_context(_away_from_the_users_files())
            if address == LOCAL:
                stack.enter_context(private_ray.on_loopback())
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(ours if address == LOCAL else {}),
            )
    except Exception as error:  # plain ones among them: processes that did not come up in time
        own = address == LOCAL
        raise (_not_started(error) if own else no_cluster(asked, error)) from None
    except SystemExit:
        # Ray's handler of SIGTERM leaves without a word; the caller's may have one.
        if callable(handler):
            handler(signal.SIGTERM, None)
        raise
