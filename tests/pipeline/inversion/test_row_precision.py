"""Rows say the precision that they were computed in; what float16 cannot hold is computed in float32."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from encoders import execution, load_inverter, save_inverter
from jobs.cli import cli
from pipeline import LatentDataset
from pipeline.config import PROTOCOL, ClusterConfig, RunConfig
from pipeline.engine import run_folder
from pipeline.engine.local import LocalHost
from pipeline.engine.run_folder import RunFolder
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.tasks import InThisProcess
from pipeline.errors import ConfigError
from pipeline.inversion import run
from pipeline.inversion.actor import InversionActor
from pipeline.inversion.batches import BatchInverter
from pipeline.inversion.computation import Computation
from pipeline.inversion.scoring import Scorer
from pipeline.latents import footer, schema
from pipeline.records import AlignedFace, Status

BRIGHT = 2  # the row that float16 cannot hold


@pytest.fixture(scope="module")
def overflowing(tiny_inverter, tmp_path_factory):
    """An encoder that answers bright pictures with more than float16 can hold on the way."""
    model = load_inverter(tiny_inverter)
    stem = model.encoder.stem.weight
    stem[:, 3:] = 0  # it looks at the picture alone
    stem.mul_(6e4 / stem.abs().max())  # still a float16 itself
    path = tmp_path_factory.mktemp("overflow") / "overflow.safetensors"
    save_inverter(path, model)
    return path


@pytest.fixture
def rows(overflowing, one_thread):
    """A function from a precision to the rows of five dark pictures, one of them bright."""
    pixels = np.full((5, 64, 64, 3), 127, np.uint8)
    pixels[:, ::2] += 1  # float32 has something to normalise
    pixels[BRIGHT] = 255
    pixels[BRIGHT, 20:40, 20:40] = 0
    faces = [AlignedFace(i, f"{i}", Status.OK, image_u8=pixels[i]) for i in range(5)]

    def compute(precision):
        config = RunConfig(
            str(overflowing), steps=2, align="none", metrics=("mse",), save_images=True,
            precision=precision,
        )  # fmt: skip
        model = load_inverter(overflowing, precision=precision)
        inverter = BatchInverter(model, config, Scorer(config), 5, InThisProcess())
        return [row for batch in inverter.rows(iter(faces), Stopwatch()) for row in batch]

    return compute


def test_a_row_that_float16_cannot_hold_is_done_again_in_float32(overflowing, rows):
    model = load_inverter(overflowing, precision="fp16")
    bright = torch.ones(1, 3, 64, 64)
    assert not model.invert(bright, 1).latents.isfinite().all(), "a real overflow"

    half, full = rows("fp16"), rows("fp32")
    assert [row.status for row in half] == [Status.OK] * 5
    assert [row.precision for row in half] == ["fp16", "fp16", "fp32", "fp16", "fp16"]
    assert [row.precision for row in full] == ["fp32"] * 5
    again, exact = half[BRIGHT], full[BRIGHT]
    np.testing.assert_allclose(again.latents, exact.latents, atol=1e-4)
    np.testing.assert_allclose(again.metrics["mse"], exact.metrics["mse"], rtol=1e-4)
    assert len(again.reconstruction) == pytest.approx(len(exact.reconstruction), rel=0.05)
    for i in (0, 1, 3, 4):
        assert not np.array_equal(half[i].latents, full[i].latents)


def test_bfloat16_is_not_done_again_and_nan_in_float32_stays_a_failure(rows, monkeypatch):
    again = []
    monkeypatch.setattr(Computation, "exactly", lambda *_: again.append(1))
    assert [row.precision for row in rows("bf16")] == ["bf16"] * 5
    assert not again


def test_the_column_says_what_was_computed_and_is_null_for_failures():
    config = RunConfig(align="none", metrics=())
    columns = schema.schema(config, 2, 2)
    faces = [AlignedFace(0, "a", Status.OK), AlignedFace(1, "b", Status.DECODE_ERROR, "no image")]
    both = [schema.Row(face, face.status, face.error) for face in faces]
    both[0].latents, both[0].precision = np.zeros((5, 2, 2), np.float32), "fp16"
    batch = schema.record_batch(both, "s.tar", columns)
    assert batch.column("precision").to_pylist() == ["fp16", None]


@pytest.fixture
def prepare(tiny_inverter, write_tar, photo, tmp_path):
    shard = write_tar(tmp_path / "s.tar", [("a.png", photo(0)), ("b.png", photo(1))])

    def start(how=None, **settings):
        config = RunConfig(str(tiny_inverter), align="none", metrics=("mse",), steps=2, **settings)
        return run.plan_inversion([shard], str(tmp_path / "out"), config, how or ClusterConfig())

    return start


def test_tf32_is_refused_where_there_is_no_such_gpu(prepare):
    with pytest.raises(ConfigError, match="tf32 rounds products .* use fp32 or bf16"):
        prepare(precision="tf32")


def test_a_folder_of_an_earlier_protocol_is_not_continued_in_silence(prepare, tmp_path):
    prepared = prepare()
    old = {**prepared.settings, "protocol": PROTOCOL - 1}
    RunFolder(str(tmp_path / "out")).write_run_record(old, prepared.tasks, overwrite=False)
    with pytest.raises(
        ConfigError, match=r"begun by another release.*protocol 2, here 3.*not cont"
    ):
        prepare()
    settings = json.loads((tmp_path / "out" / run_folder.SETTINGS).read_text())
    assert settings["protocol"] == PROTOCOL - 1


@pytest.fixture
def process(prepare, one_thread):
    """A function: the report and the footer of a shard that an actor in this process inverted."""

    def start(**how):
        prepared = prepare(how=ClusterConfig(**how))
        workers = replace(prepared.workers, n_in_flight=2, n_threads=1)
        actor = InversionActor(workers, LocalHost(InThisProcess()))
        actor.load()
        [task] = prepared.pending
        report = actor.process(task)
        return report, footer(pq.read_metadata(f"{prepared.out}/{task.output}"))

    return start


def test_report_and_footer_say_how_the_model_ran(process, monkeypatch):
    monkeypatch.setattr(execution, "missing_for_compiling", lambda _: "no C compiler")
    report, told = process(compile="always")
    assert report.execution == "step by step (no C compiler)"
    assert told["execution"] == "eager"
    assert told["identity"]["precision"] == "fp32"


def test_on_a_cpu_nothing_is_said_of_it_unless_asked(process):
    report, told = process()
    assert (report.execution, told["execution"]) == ("", "eager")


def test_rows_are_read_with_their_precision(process, tmp_path):
    process()
    ds = LatentDataset(str(tmp_path / "out"), where="precision == 'fp32'")
    assert [row["precision"] for row in ds] == ["fp32", "fp32"]


def test_a_long_run_compiles_and_a_resumed_one_decides_as_before(prepare):
    short = prepare().workers
    assert not short.is_long
    tasks = [replace(prepare().tasks[0], version="size=700000000 mtime=1")]
    assert run._is_long(tasks, ClusterConfig())
    assert not run._is_long(tasks, ClusterConfig(n_actors=2))
    assert run._is_long([replace(tasks[0], version="")] * 2, ClusterConfig())


def test_the_command_takes_each_choice_and_no_other(tmp_path):
    told = CliRunner().invoke(
        cli, ["invert", "x.tar", "--out", str(tmp_path), "--compile", "maybe"]
    )
    assert told.exit_code == 2
    assert "'auto', 'always', 'never'" in told.output
    shutil.rmtree(tmp_path)
