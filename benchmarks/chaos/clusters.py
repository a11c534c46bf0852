"""Faults of a Ray cluster: nodes that die and join, and a head that is lost. Its nodes are real processes."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.chaos.faults import Trial
from benchmarks.chaos.processes import descendants, kill, wait_until_gone

N_NODES = 3  # beside the head, each with a CPU and a logical GPU
JOIN_S = 120.0


def _start(n_nodes: int) -> Any:
    """A head without CPUs, so that nothing but the driver runs there, and its nodes."""
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(n_nodes):
        _add(found)
    return found


def _add(cluster: Any) -> None:
    cluster.add_node(num_cpus=1, num_gpus=1, wait=False)


def _kill(node: Any) -> None:
    """Without warning, with every process of it."""
    roots = [info.process.pid for infos in node.all_processes.values() for info in infos]
    kill([*roots, *(pid for root in roots for pid in descendants(root))])


def node(trial: Trial) -> None:
    """SIGKILL of a node and all its processes; another node joins."""
    cluster = _start(N_NODES)
    try:
        job = trial.start("--address", cluster.address)
        while trial.tally.n_injected < trial.times and trial.wait_for_shards(job, trial.each()):
            victim = trial.chance.choice(list(cluster.worker_nodes))
            _kill(victim)
            cluster.worker_nodes.remove(victim)
            trial.tally.n_injected += 1
            _add(cluster)
        trial.end(job)
    finally:
        cluster.shutdown()


def head(trial: Trial) -> None:
    """Loss of the head and all nodes; a new cluster, the same command again."""
    for _ in range(trial.times):
        cluster = _start(N_NODES)
        try:
            job = trial.start("--address", cluster.address)
            if not trial.wait_for_shards(job, trial.each()):
                break
            below = descendants(job.process.pid)
            for lost in (cluster.head_node, *cluster.worker_nodes):
                _kill(lost)
            trial.tally.n_injected += 1
            begin = time.monotonic()
            status = job.finish()
            if status == 0 or time.monotonic() - begin > JOIN_S:
                trial.tally.complain(f"status {status} after the loss of the head")
            if left := wait_until_gone(below, 10.0):
                trial.tally.complain(f"{len(left)} processes outlived the job")
                kill(left)
        finally:
            cluster.shutdown()
    cluster = _start(N_NODES)
    try:
        trial.end(trial.start("--address", cluster.address))
    finally:
        cluster.shutdown()
