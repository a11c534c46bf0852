"""A run whose model is an address: fetched once, the same for all, and never because a file names it."""

from pathlib import Path

import pytest
from web_files import sending, serving

from generators.files import download
from pipeline import Inverter
from pipeline.config import ClusterConfig, RunConfig
from pipeline.errors import ConfigError
from pipeline.inversion.run import plan_inversion
from pipeline.models import footer_name, load_generating_model, load_model


@pytest.fixture
def address(tiny_inverter, tmp_path, monkeypatch):
    """Of the tiny inverter, with a signature; and the server's record."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(sending(Path(tiny_inverter).read_bytes())) as server:
        yield f"{server.url}/tiny.safetensors?signature=SECRET", server


@pytest.fixture
def shard(tmp_path, write_tar, photo):
    return write_tar(tmp_path / "s.tar", [("a.png", photo())])


def test_the_plan_pins_what_workers_load(address, shard, tmp_path, tiny_inverter):
    url, server = address

    def plan(model):
        config = RunConfig(model=str(model), metrics=("mse",), align="none", steps=1)
        return plan_inversion([shard], str(tmp_path / "out"), config, ClusterConfig(), dry_run=True)

    planned = plan(url)
    assert planned.settings == plan(tiny_inverter).settings, "the weights count, not their address"
    run = planned.workers.run
    assert run.model.startswith(f"{url}#sha256=")
    load_model(run)
    assert len(server.asked) == 1, "a worker beside the driver asks nobody"


def test_an_inverter_takes_one(address):
    url, _ = address
    assert Inverter(url, align="none", metrics="mse").model.input_size == (64, 64)


@pytest.mark.parametrize("entry", ["model", "then", "generator"])
def test_an_address_in_a_footer_is_not_followed(address, entry):
    url, server = address
    footer = {"model": "demo", "identity": {"generator_sha256": "0"}, entry: url}
    with pytest.raises(ConfigError, match="addresses in files are not followed") as error:
        load_generating_model(footer)
    assert "SECRET" not in str(error.value)
    assert server.asked == []


def test_what_a_run_fetched_is_found_again_without_asking(address):
    url, server = address
    named = footer_name(download.pinned(url))
    assert "SECRET" not in named
    footer = {"model": named, "identity": {"generator_sha256": "0"}}
    with pytest.raises(ConfigError, match="is not the one that the latents were made with"):
        load_generating_model(footer)
    assert len(server.asked) == 1
