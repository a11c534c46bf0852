"""Runs on disk for the tests of reports and comparisons."""

from dataclasses import replace

import pytest
from report_runs import HOSTILE, N_STEPS, Run, failed, row, write_shard

from pipeline.config import RunConfig
from pipeline.records import Status


@pytest.fixture
def one_thread():
    """Networks this small lose by threads, on a busy machine tenfold."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_run(tmp_path, tiny_inverter, one_thread):
    """Runs of four faces and two failures, the shard beside them."""

    def make(folder="latents", better=0.0, **settings) -> Run:
        usual = {"model": str(tiny_inverter), "metrics": ("mse", "psnr", "identity")}
        config = RunConfig(steps=N_STEPS, **usual | settings)
        run = Run(tmp_path / folder, tiny_inverter, config)
        keys = ["a/first", "second", HOSTILE, "fourth", "nobody", "broken"]
        if not (tmp_path / "photos.tar").exists():
            write_shard(tmp_path / "photos.tar", keys)
        rows = [row(i, key, config, better) for i, key in enumerate(keys[:4])]
        nobody = failed(4, "nobody", Status.NO_FACE, "no face was found")
        nobody.face = replace(nobody.face, width=80, height=64)
        rows += [nobody, failed(5, "broken", Status.DECODE_ERROR, "<b>cut & short</b>")]
        run.add("photos.parquet", rows, str(tmp_path / "photos.tar"))
        return run

    return make
