"""The measurements behind --refine run, at small sizes."""

import json

import pytest
import torch

from benchmarks import descents, refinement
from encoders import load_inverter
from encoders.refinement import curvature


@pytest.mark.slow
def test_ways_down_are_compared(monkeypatch):
    monkeypatch.setattr(curvature, "N_GRADIENTS", 128)
    ways, start = descents.measure(2, n_steps=3, after=(2, 4))
    assert len(ways) == 7
    assert all(
        errors[1] <= errors[0] <= start for name, errors in ways.items() if "Adam" not in name
    )
    best = ways["L-BFGS, all of W+ even, by 128 gradients"]
    assert best[1] < ways["L-BFGS"][1] < ways["Adam, as `encoders/optimization.py`"][1]


def test_a_size_is_timed(tmp_path, monkeypatch, tiny_inverter):
    """With a small model in the place of the published size, which takes long to make up."""
    monkeypatch.setattr(refinement, "model", lambda args: load_inverter(tiny_inverter))
    refinement.main(["--runs", "1", "--results", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["threads"] == torch.get_num_threads()
    assert min(found["five_steps_s"], found["memory_gib"]) > 0
