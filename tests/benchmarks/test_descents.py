"""The measurements behind --refine run, at small sizes."""

import json

import pytest

from benchmarks import descents, refinement
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


@pytest.mark.slow
def test_a_published_size_is_timed(tmp_path):
    refinement.main(
        ["--resolution", "32", "--runs", "1", "--results", str(tmp_path / "found.json")]
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["resolution"] == 32
    assert min(found["five_steps_s"], found["memory_gib"]) > 0
