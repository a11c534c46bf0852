"""Where there is no cluster, one sentence says whose address it was and what to do."""

import pytest

from pipeline.engine import cluster, driver
from pipeline.errors import ConfigError

DEAD = "127.0.0.1:1"


def test_an_address_that_was_passed(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(ConfigError, match=f"answers at {DEAD} .*leave --address out"):
        cluster.require_reachable(DEAD)


def test_an_address_of_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", DEAD)
    with pytest.raises(
        ConfigError, match=f"answers at {DEAD}, which RAY_ADDRESS .*unset RAY_ADDRESS"
    ):
        cluster.require_reachable(None)


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("Could not determine home directory.", "HOME is not set; set it"),
        ("'getpwuid(): uid not found: 12345'", "no entry in /etc/passwd"),
        ("AF_UNIX path length cannot exceed 107 bytes: /very/long", "set TMPDIR=/tmp"),
        ("[Errno 13] Permission denied: '/tmp/ray/session'", "set RAY_TMPDIR"),
        ("The current node timed out during startup", "run the same command again"),
    ],
)
def test_ray_that_does_not_start_here(complaint, advice, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    text = str(cluster._no_cluster(None, RuntimeError(complaint)))
    assert text.startswith(f"Ray did not start here ({complaint}); ")
    assert advice in text


def test_a_cluster_that_wants_another_token():
    text = str(
        cluster._no_cluster("host:1", RuntimeError("InvalidAuthToken: Authentication token"))
    )
    assert "set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN" in text


def test_of_a_traceback_the_cause_is_kept():
    error = RuntimeError(
        "ray::Actor.process() (pid=7)\n  File x, line 3\n\nKeyError: 'the cause'\n"
    )
    assert (
        driver._one_line(error)
        == "RuntimeError: ray::Actor.process() (pid=7) ... KeyError: 'the cause'"
    )
    assert driver._one_line(ValueError("short")) == "ValueError: short"
