"""The Ray that a run starts for itself: nobody else reaches it, and nobody else may send it work."""

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from benchmarks.chaos.processes import descendants
from pipeline.engine import private_ray
from pipeline.engine.reachable import require_reachable
from pipeline.errors import ConfigError

LISTENS = "0A"  # the state of a socket, in /proc/net/tcp
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
# A worker is started and answers; then what is to be seen from outside is printed.
DRIVER = """
import os, sys
import ray
from pipeline.config import ClusterConfig
from pipeline.engine.cluster import connect

with connect(ClusterConfig()):
    token = ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
    print(ray.get_runtime_context().gcs_address, token, flush=True)
    sys.stdin.read()
print([name for name in os.environ if name.startswith("RAY_AUTH")])
"""


@pytest.fixture
def started(tmp_path):
    """A driver that has started Ray without a home folder, its address and its token."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HOME"))}
    environment |= {"HOME": str(tmp_path / "absent"), "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment) as driver:
        yield driver, *driver.stdout.readline().split()


def listeners(pids):
    """Local addresses, as the kernel writes them, at which these processes take connections."""
    sockets = set()
    for pid in pids:
        try:
            files = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue  # it has ended
        for file in files:
            try:
                sockets.add(os.readlink(file).removeprefix("socket:[").rstrip("]"))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        found += [f[1].partition(":")[0] for f in fields if f[3] == LISTENS and f[9] in sockets]
    return found


def answer(address, token):
    """What the cluster's head says to somebody who asks for the number of a new job."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address) as channel:
        jobs = gcs_service_pb2_grpc.JobInfoGcsServiceStub(channel)
        request = gcs_service_pb2.GetNextJobIDRequest()
        try:
            jobs.GetNextJobID(request, timeout=20, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.ray
@pytest.mark.slow
def test_nobody_else_reaches_it_or_sends_it_work(started):
    driver, address, token = started
    found = listeners([driver.pid, *descendants(driver.pid)])
    assert len(found) > 5
    assert set(found) <= LOOPBACK
    refused = grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(ConfigError, match="refuses this user's token .*missing or incorrect"):
        require_reachable(address)
    answers = [answer(address, t) for t in ("", "another", token)]
    assert answers == [refused, refused, grpc.StatusCode.OK]
    out, _ = driver.communicate()
    assert out == "[]\n"
    assert driver.returncode == 0


def test_what_the_user_has_set_stays():
    fresh = private_ray.settings({})
    assert fresh["RAY_AUTH_MODE"] == "token"
    assert len(fresh["RAY_AUTH_TOKEN"]) == 64
    assert fresh != private_ray.settings({})
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        assert private_ray.settings({name: "mine"}) == {"RAY_AUTH_MODE": "token"}
    for mode in ("token", "disabled"):
        assert private_ray.settings({"RAY_AUTH_MODE": mode}) == {}
