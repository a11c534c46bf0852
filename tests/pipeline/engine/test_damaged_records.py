"""`_run/*.json` that a disk damaged: settings and lists of shards are refused, signs of life are ignored."""

import json

import pytest
from latent_folders import failed, write_file

from pipeline.config import RunConfig
from pipeline.engine import audit, progress
from pipeline.engine.quarantine import FOLDER, pop_last_position
from pipeline.engine.run_folder import SETTINGS, SHARDS, RunFolder
from pipeline.errors import ConfigError
from pipeline.records import Task
from pipeline.training import state

CONFIG = RunConfig(steps=1, metrics=(), align="none")
NONSENSE = ["[1]", '"x"', "7", '{"a', "", "null", "[" * 100_000, "NaN", b"\xff\xfe\x00", "[[]]"]


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "latents"
    tasks = [Task(f"{i}.tar", "size=1", f"{i}.parquet") for i in range(2)]
    RunFolder(str(folder)).require_writable()
    RunFolder(str(folder)).write_run_record(CONFIG.settings(), tasks, overwrite=False)
    write_file(folder, "0.parquet", [failed(0, "a")], CONFIG)
    return folder


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    "content",
    [*NONSENSE, '{"steps": "2"}', '{"steps": 1e99}', '{"metrics": {}}', '{"label_x": "no"}'],
)
def test_settings(out, content):
    put(out / SETTINGS, content)
    for read in (
        RunFolder(str(out)).settings,
        lambda: RunFolder(str(out)).require_compatible(CONFIG.settings(), overwrite=False),
        lambda: list(audit.verify(str(out), ["0.parquet"])),
    ):
        with pytest.raises(ConfigError, match=r"settings\.json") as refused:
            read()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        *NONSENSE,
        "{}",
        '[{"url": "a.tar"}]',
        '[{"url": 1, "identity": "", "output": "a"}]',
        '[{"url": "a", "identity": null, "output": "a"}]',
        "[null]",
    ],
)
def test_shards(out, content):
    put(out / SHARDS, content)
    for read in (
        lambda: audit.status(str(out)),
        lambda: audit.missing(str(out)),
        lambda: RunFolder(str(out)).planned([Task("0.tar", "size=1", "0.parquet")]),
        lambda: RunFolder(str(out)).forget(["x.tar"]),
    ):
        with pytest.raises(ConfigError, match=r"shards\.json.*delete it"):
            read()


HEARTBEAT = {"run": "r", "state": "running", "written": 1.0, "seconds": 2.0, "n_rows": 4, "by": "m"}


@pytest.mark.parametrize(
    "content",
    [
        *NONSENSE,
        *(
            json.dumps(HEARTBEAT | wrong)
            for wrong in (
                {"seconds": 1e300}, {"n_rows": -1}, {"n_rows": "4"}, {"n_by_status": {"ok": "x"}},
                {"n_by_status": [1]}, {"busy_s": {"read": None}}, {"workers": [1]}, {"begun": [3]},
                {"failures": [{"shard": 1, "error": []}]}, {"failures": ["x"]}, {"failures": {}},
                {"begun": [{"shard": "s", "worker": 3, "n_rows": [], "seconds": -1}]},
                {"begun": [{"shard": "s", "worker": "w", "n_rows": 1, "seconds": 1e200}]},
                {"n_asked": True}, {"run": None}, {"state": 7, "started": {}},
            )
        ),
    ],
)  # fmt: skip
def test_a_heartbeat_that_is_none_hides_nothing(out, content):
    from click.testing import CliRunner

    from jobs.cli import cli

    put(out / progress.PROGRESS, content)
    put(out / progress.RUNS / "r.json", content)
    found = audit.status(str(out))
    assert found.n_done == 1
    assert found.missing == ["1.tar"]
    progress.throughput(str(out), "")
    shown = CliRunner().invoke(cli, ["status", str(out)])
    assert shown.exception is None, shown.exception
    assert "not done: 1.tar" in shown.output


@pytest.mark.parametrize("content", [*NONSENSE, '[1, "x"]', "[1.5, 2]", "[1, 2, 3]"])
def test_a_note_of_a_watched_worker_that_is_none(out, content):
    put(out / FOLDER / "0.parquet", content)
    assert pop_last_position(str(out), "0.parquet") is None


@pytest.mark.parametrize("content", NONSENSE)
def test_settings_of_a_training(tmp_path, content):
    put(tmp_path / state.SETTINGS, content)
    (tmp_path / state.STATE).touch()
    with pytest.raises(ConfigError, match=r"settings\.json.*another --out"):
        state.claim(tmp_path, {"steps": 1}, frozenset())
