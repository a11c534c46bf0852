"""The Ray that a run starts for itself: it listens on this machine alone, and takes work for a token only.

By itself Ray listens on every network that the machine is on, and below 2.60 it runs whatever it is sent.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from ray._private import ray_constants

LOOPBACK = "127.0.0.1"
MODE, TOKENS = "RAY_AUTH_MODE", ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add for a run of our own: a mode, and a token that nobody else has.

    What the user has set stays: a mode of theirs decides alone, a token of theirs is the one.
    """
    if MODE in environment:
        return {}
    token = (
        {} if any(name in environment for name in TOKENS) else {TOKENS[0]: secrets.token_hex(32)}
    )
    return {MODE: "token"} | token


@contextmanager
def guarded() -> Iterator[None]:
    """Within it, Ray here and the processes that it starts want the run's token, which is in no file."""
    added = settings(os.environ)
    os.environ |= added
    _read_again()
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        _read_again()


def _read_again() -> None:
    """Ray reads mode and token once a process; releases that know no token have nothing to read."""
    compiled: Any = import_module("ray._raylet")
    with suppress(AttributeError):
        compiled.Config.initialize("")
        compiled.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def on_loopback() -> Iterator[None]:
    """Within it, a Ray that is started here takes the loopback address for its own.

    Given that address alone, it would look for one that other machines can reach, unless it takes this for
    a system on which there are no clusters.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
