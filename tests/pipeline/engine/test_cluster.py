"""Where there is no cluster, one sentence says whose address it was and what to do."""

import socket
import tempfile
import threading
from pathlib import Path

import pytest

from pipeline.engine import cluster, driver
from pipeline.engine.reachable import no_cluster, require_reachable
from pipeline.errors import ConfigError

DEAD = "127.0.0.1:1"


def test_an_address_that_was_passed(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(ConfigError, match=f"answers at {DEAD} .*leave --address out"):
        require_reachable(DEAD)


def test_an_address_of_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", DEAD)
    with pytest.raises(
        ConfigError, match=f"answers at {DEAD}, which RAY_ADDRESS .*unset RAY_ADDRESS"
    ):
        require_reachable(None)


@pytest.mark.parametrize("address", ["nonsense", "host:abc", "ray://host:10001", ":6379"])
def test_what_is_no_address(address):
    with pytest.raises(ConfigError, match=f"{address} is not the address .*give HOST:PORT"):
        require_reachable(address)


def test_somebody_else_at_the_address():
    """Ray would wait two minutes for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ConfigError, match="something other than Ray listens there"):
            require_reachable(address)


@pytest.fixture
def temporary(monkeypatch):
    """Say which folder is for temporary files."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return lambda folder: monkeypatch.setenv("TMPDIR", str(folder))


def test_folders_for_temporary_files(temporary, monkeypatch):
    refused = {
        "": "TMPDIR names no folder, but Ray needs a whole path; set TMPDIR=/tmp",
        "here": "TMPDIR names here, but Ray needs a whole path",
        "/tmp/"
        + 40
        * "x": r"too long a name for the sockets in it .at most \d\d characters.; set RAY_TMPDIR",
    }
    for folder, why in refused.items():
        temporary(folder)
        with pytest.raises(ConfigError, match=why):
            require_reachable(None)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        temporary(f"{folder}/new")
        require_reachable(None)
        assert Path(folder, "new", "ray").is_dir()
        Path(folder, "f").touch()
        temporary(f"{folder}/f")
        with pytest.raises(ConfigError, match="cannot be written to .Not a directory.; set RAY_"):
            require_reachable(None)
        monkeypatch.setenv("RAY_TMPDIR", f"{folder}/new")
        require_reachable(None)


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("Could not determine home directory.", "HOME is not set; set it"),
        ("'getpwuid(): uid not found: 12345'", "no entry in /etc/passwd"),
        ("AF_UNIX path length cannot exceed 107 bytes: /very/long", "set TMPDIR=/tmp"),
        ("RAY_AUTH_TOKEN_PATH is set but file cannot be opened", "unset it, or write a token"),
        ("[Errno 13] Permission denied: '/tmp/ray/session'", "set RAY_TMPDIR"),
        ("The current node timed out during startup", "run the same command again"),
    ],
)
def test_ray_that_does_not_start_here(complaint, advice):
    text = str(cluster._not_started(RuntimeError(complaint)))
    assert text.startswith(f"Ray did not start here ({complaint}); ")
    assert advice in text


def test_a_cluster_that_wants_another_token():
    text = str(no_cluster("host:1", RuntimeError("InvalidAuthToken: Authentication token")))
    assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's own token" in text


def test_of_a_traceback_the_cause_is_kept():
    error = RuntimeError(
        "ray::Actor.process() (pid=7)\n  File x, line 3\n\nKeyError: 'the cause'\n"
    )
    assert (
        driver._one_line(error)
        == "RuntimeError: ray::Actor.process() (pid=7) ... KeyError: 'the cause'"
    )
    assert driver._one_line(ValueError("short")) == "ValueError: short"


@pytest.mark.parametrize(("given", "share"), [(0, 1.0), (0.5, 0.5), (1, 1.0), (2, 1.0)])
def test_an_actor_knows_its_part_of_a_gpu(joined, given, share):
    import ray

    from pipeline.engine.ray_host import RayHost

    ask = ray.remote(num_gpus=given, num_cpus=0)(lambda: RayHost().gpu_share())
    assert ray.get(ask.remote()) == share
