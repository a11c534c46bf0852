"""Two real workers, joined by gloo: the same weights, the mean of their gradients."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from generators.training import parallel

WORKER = """
import sys, torch
from torch import distributed, nn
from generators.training import parallel

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
torch.manual_seed(rank)
module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(2, 2))
parallel.broadcast_parameters(module)
started = {name: tensor.clone() for name, tensor in module.state_dict().items()}
module[0](torch.full((1, 2, 4, 4), 1.0 + rank)).sum().backward()  # the others have no gradient
mine = module[0].weight.grad.clone()
parallel.average_gradients(module.parameters())
assert parallel.rank() == rank and parallel.n_workers() == 2
torch.save({"started": started, "mine": mine, "mean": module[0].weight.grad,
            "unused": module[2].weight.grad}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_workers_start_equal_and_average_their_gradients(tmp_path):
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, tensor in first["started"].items():
        assert torch.equal(tensor, second["started"][name]), name
    assert not torch.equal(first["mine"], second["mine"])
    expected = (first["mine"] + second["mine"]) / 2
    for found in (first, second):
        torch.testing.assert_close(found["mean"], expected)
        assert found["unused"] is None


def test_a_single_worker_keeps_what_it_has():
    module = nn.Linear(2, 2)
    module(torch.ones(1, 2)).sum().backward()
    weight, gradient = module.weight.clone(), module.weight.grad.clone()
    parallel.broadcast_parameters(module)
    parallel.average_gradients(module.parameters())
    assert torch.equal(module.weight, weight)
    assert torch.equal(module.weight.grad, gradient)
    assert (parallel.rank(), parallel.n_workers()) == (0, 1)
