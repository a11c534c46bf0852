"""Damage of every kind to tars and pictures; a longer run of the same is `python -m benchmarks.fuzz`."""

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings

# The same examples each time: a suite that fails must fail again.
quick = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@settings(quick, max_examples=300)
@given(case=fuzzing.tars)
def test_a_damaged_shard_is_every_sample_once_or_one_sentence(case, tmp_path):
    fuzzing.check_tar(case, tmp_path / "s.tar")


@pytest.mark.filterwarnings("ignore")
@settings(quick, max_examples=400)
@given(case=fuzzing.pictures)
def test_a_damaged_picture_is_one_row(case):
    fuzzing.check_picture(case)
