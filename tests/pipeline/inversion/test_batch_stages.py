"""The stages of a shard in its actor: the same rows as one after the other, and together at an end."""

import re
import threading
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from encoders import load_inverter
from encoders.metrics import distances
from encoders.refinement import Refiner, curvature
from encoders.stepping import Start, Stepper
from pipeline import errors
from pipeline.config import AUTO, RunConfig
from pipeline.engine import stopwatch
from pipeline.engine.quarantine import CrashRecorder, CrashSearch
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.tasks import InThisProcess
from pipeline.faces import images
from pipeline.inversion import batch_size, batches, computation
from pipeline.inversion.batches import BatchInverter
from pipeline.inversion.scoring import Scorer
from pipeline.records import AlignedFace, Status

N, SIZE = 11, 3
RUN = RunConfig(steps=2, metrics=("mse", "psnr", "ms_ssim"), align="none", save_images=True)


@pytest.fixture(autouse=True)
def no_thread_is_left(one_thread):
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def model(tiny_inverter):
    return load_inverter(tiny_inverter)


@pytest.fixture
def faces():
    """Eleven rows; the second and the whole second batch are failures."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 64, 64, 3), dtype=np.uint8)
    bad = {1, 3, 4, 5}
    return [
        AlignedFace(i, f"{i}", Status.NO_FACE, "no face was found")
        if i in bad
        else AlignedFace(i, f"{i}", Status.OK, image_u8=pixels[i])
        for i in range(N)
    ]


@pytest.fixture
def inverter(model):
    """A function: an inverter of batches of three, of the tiny model or another."""

    def make(n_ahead=2, model=model, size=SIZE, run=RUN, refiner=None):
        return BatchInverter(model, run, Scorer(run), size, InThisProcess(), n_ahead, refiner)

    return make


def expected(model, faces):
    """Status, latents, metrics and pictures of rows, computed in the plainest way."""
    found = {}
    source = iter(faces)
    while batch := list(islice(source, SIZE)):
        usable = [face for face in batch if face.image_u8 is not None]
        if not usable:
            continue
        pixels = torch.from_numpy(np.stack([face.image_u8 for face in usable]))
        result = model.invert(pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1), n_steps=2)
        for i, face in enumerate(usable):
            metrics = {
                name: [
                    getattr(distances, name)(s, result.target)[i].item()
                    for s in result.thumbnails.clamp(-1, 1)
                ]
                for name in RUN.metrics
            }
            picture = images.encode_jpeg(images.to_u8(result.images[i]))
            found[face.index] = result.latents[:, i].numpy(), metrics, picture
    return found


@pytest.mark.parametrize("n_ahead", [0, 1, 2])
def test_rows_are_those_of_one_batch_after_the_other_to_the_bit(model, inverter, faces, n_ahead):
    clock = Stopwatch()
    found = list(inverter(n_ahead).rows(iter(faces), clock))
    assert [len(batch) for batch in found] == [3, 3, 3, 2]
    rows = [row for batch in found for row in batch]
    assert [row.face.index for row in rows] == list(range(N))
    answers = expected(model, faces)
    for row, face in zip(rows, faces, strict=True):
        assert row.status == face.status
        assert row.face.image_u8 is None
        if face.status != Status.OK:
            assert (row.error, row.latents, row.metrics) == (face.error, None, {})
            continue
        latents, metrics, picture = answers[row.face.index]
        assert row.latents.tobytes() == latents.tobytes()
        assert row.metrics == metrics
        assert row.best_step == int(np.argmin(metrics["mse"])) + 1
        assert row.is_worse == (metrics["mse"][-1] > 1.05 * min(metrics["mse"]))
        assert row.reconstruction == picture
        np.testing.assert_array_equal(images.decode(row.aligned_image), face.image_u8)
    assert set(clock.seconds) == {"wait", "invert", "score", "write"}
    assert min(clock.seconds.values()) > 0


def assert_shows_its_latent(model, row):
    drawn = images.to_u8(model.draw_kept(torch.from_numpy(row.latents[-1:]))[0])
    expected = images.decode(images.encode_jpeg(drawn)).astype(int)
    # Of a batch and alone: rounding apart.
    assert abs(images.decode(row.reconstruction) - expected).max() <= 3


def test_of_each_row_the_best_step_is_kept(model, inverter, faces):
    class Worsening(Other):
        """Whose later steps are far off for every second image."""

        def invert_pixels(self, pixels, n_steps):
            result = super().invert_pixels(pixels, n_steps)
            result.thumbnails[1:, ::2] = 7.0  # counts as white
            return result

    every, best = (
        [
            row
            for batch in inverter(model=Worsening(model), run=run).rows(iter(faces), Stopwatch())
            for row in batch
        ]
        for run in (RUN, replace(RUN, latents="best"))
    )
    kept, n_worse = set(), 0
    for row, all_ in zip(best, every, strict=True):
        if row.status != Status.OK:
            continue
        step = row.best_step
        kept.add(step)
        assert step == all_.best_step == len(row.latents)
        assert row.metrics == {name: values[:step] for name, values in all_.metrics.items()}
        assert max(all_.metrics["mse"]) <= 4
        mse = all_.metrics["mse"]
        assert (row.is_worse, all_.is_worse) == (False, mse[-1] > 1.05 * min(mse))
        n_worse += all_.is_worse
        np.testing.assert_array_equal(row.latents[-1], all_.latents[step - 1])
        assert_shows_its_latent(model, row)
    assert 1 in kept
    assert n_worse


def test_a_refined_answer_is_a_step_more(model, inverter, faces):
    run = replace(RUN, refine=4)
    refiner = Refiner(model, 4, gradients=curvature.gradients(model, 64))
    clock = Stopwatch()
    refined, plain = (
        [row for batch in found for row in batch]
        for found in (
            inverter(run=run, refiner=refiner).rows(iter(faces), clock),
            inverter().rows(iter(faces), Stopwatch()),
        )
    )
    assert clock.seconds["refine"] > 0
    for row, before in zip(refined, plain, strict=True):
        if row.status != Status.OK:
            continue
        assert (row.latents[:2] == before.latents).all()
        assert {len(values) for values in row.metrics.values()} == {len(row.latents)} == {3}
        assert row.metrics["mse"][2] < min(before.metrics["mse"])
        assert (row.best_step, row.is_worse) == (3, False)
        assert_shows_its_latent(model, row)


def rows_of(inverter, faces, **more):
    clock = Stopwatch()
    found = [row for batch in inverter(**more).rows(iter(faces), clock) for row in batch]
    assert [row.face.index for row in found] == [face.index for face in faces]
    return found


@pytest.mark.parametrize("n_ahead", [0, 2])
def test_with_auto_each_row_has_the_steps_that_it_needs(
    make_inverter, inverter, faces, n_ahead, monkeypatch
):
    model, gain = load_inverter(make_inverter(seed=2)), 0.001
    monkeypatch.setattr(computation, "AUTO_GAIN", gain)  # which a model of random weights passes
    run = replace(RUN, steps=AUTO, max_steps=6)
    assert (run.steps, run.auto) == (6, True)
    found = rows_of(inverter, faces, model=model, run=run, n_ahead=n_ahead)
    fixed = rows_of(inverter, faces, model=model, run=replace(RUN, steps=6))
    lengths = set()
    for row, whole in zip(found, fixed, strict=True):
        assert row.status == whole.status
        if row.status != Status.OK:
            continue
        mse = whole.metrics["mse"]
        falls = [after < (1 - gain) * before for before, after in pairwise(mse)]
        n = falls.index(False) + 2 if False in falls else 6
        lengths.add(n)
        assert len(row.latents) == n
        np.testing.assert_allclose(row.latents, whole.latents[:n], atol=1e-5)
        assert row.metrics["mse"] == pytest.approx(mse[:n], rel=1e-4)
        assert {len(values) for values in row.metrics.values()} == {n}
        assert_shows_its_latent(model, row)
    assert len(lengths) > 1, "they differ"


def test_auto_refined_and_the_best_step(model, inverter, faces):
    run = replace(RUN, steps=AUTO, max_steps=6, refine=3, latents="best")
    refiner = Refiner(model, 3, gradients=curvature.gradients(model, 64))
    plain = rows_of(inverter, faces, run=replace(RUN, steps=AUTO, max_steps=6))
    for row, before in zip(rows_of(inverter, faces, run=run, refiner=refiner), plain, strict=True):
        if row.status == Status.OK:
            assert row.best_step == len(row.latents) == len(before.latents) + 1
            np.testing.assert_allclose(row.latents[:-1], before.latents, atol=1e-5)
            assert row.metrics["mse"][-1] < min(before.metrics["mse"])


def test_a_random_start_is_the_rows_own(model, inverter, faces):
    run = replace(RUN, init="random")
    found, again = (rows_of(inverter, faces, run=run, size=size) for size in (3, 4))
    starts = []
    for row, other in zip(found, again, strict=True):
        if row.status != Status.OK:
            continue
        np.testing.assert_allclose(row.latents, other.latents, atol=1e-5)
        z = computation.z_of(row.face, 16)
        w = model.generator.mapping(z[None])[0]
        starts.append(w)
        given = torch.from_numpy(images.decode(row.aligned_image)).permute(2, 0, 1)[None]
        [alone] = Stepper(model, 1, 2)(
            [Start(given.float() / 127.5 - 1, w[None, None].expand(1, 10, -1))]
        )
        np.testing.assert_allclose(row.latents, alone.latents[:, 0], atol=1e-5)
    assert len({tuple(w.tolist()) for w in starts}) == len(starts)


def test_what_the_model_answers_with_nan_is_a_row(model, inverter, faces):
    class Broken(Other):
        def invert_pixels(self, pixels, n_steps):
            result = super().invert_pixels(pixels, n_steps)
            result.latents[-1, 0, 0, 0] = torch.nan
            return result

    [rows] = inverter(model=Broken(model), size=2).rows(iter(faces[6:8]), Stopwatch())
    assert [row.status for row in rows] == [Status.NOT_FINITE, Status.OK]
    assert (rows[0].latents, rows[0].reconstruction, rows[0].metrics) == (None, None, {})
    assert "NaN" in rows[0].error


class Other:
    """A model that does something besides."""

    def __init__(self, model):
        self._model = model
        self.latent_avg, self.input_size = model.latent_avg, model.input_size

    def invert_pixels(self, pixels, n_steps):
        return self._model.invert_pixels(pixels, n_steps=n_steps)

    def draw_kept(self, latents):
        return self._model.draw_kept(latents)


class Failed(Exception):
    """Raised somewhere in the middle of a shard."""


def fail(*_, **__):
    raise Failed


def failing_source(faces):
    yield from faces[:7]
    raise Failed


class FailingModel(Other):
    n = 0

    def invert_pixels(self, pixels, n_steps):
        self.n += 1
        return fail() if self.n == 2 else super().invert_pixels(pixels, n_steps)


@pytest.mark.parametrize("n_ahead", [0, 2])
@pytest.mark.parametrize("stage", ["faces", "model", "fetching", "identity", "writing"])
def test_an_error_in_any_stage_ends_all(model, inverter, faces, monkeypatch, stage, n_ahead):
    source = failing_source(faces) if stage == "faces" else iter(faces * 50)
    made = inverter(n_ahead, FailingModel(model) if stage == "model" else model)
    if stage == "fetching":
        monkeypatch.setattr(batches.images, "encode_png", fail)
    if stage == "identity":
        monkeypatch.setattr(BatchInverter, "_identify", fail)

    def write():
        with closing(made.rows(source, Stopwatch())) as rows:
            for n, _ in enumerate(rows):
                if stage == "writing" and n == 2:
                    fail()

    with pytest.raises(Failed):
        write()
    assert stage in ("faces", "model") or next(source, None) is not None  # not read to its end


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_whoever_wants_to_end_the_process_may(model, inverter, faces, error):
    class Leaving(Other):
        def invert_pixels(self, pixels, n_steps):
            raise error

    with pytest.raises(type(error)):
        list(inverter(model=Leaving(model)).rows(iter(faces), Stopwatch()))


def test_a_watched_shard_is_noted_step_by_step(model, inverter, faces, tmp_path):
    """What is noted is what is being done: nothing is under way when the next note is written."""
    events = []

    class Noting(CrashRecorder):
        def note(self, first, last):
            events.append(("note", first, last))

    class Telling(Other):
        def invert_pixels(self, pixels, n_steps):
            events.append(("inverted", len(pixels), threading.current_thread()))
            return super().invert_pixels(pixels, n_steps)

    recorder = Noting(str(tmp_path), "s.parquet", CrashSearch(batch=(6, 8)))
    for rows in inverter(model=Telling(model)).rows(iter(faces), Stopwatch(), recorder):
        events.append(("rows", rows[0].face.index, rows[-1].face.index))
    here = threading.current_thread()
    alone = [(("note", i, i), ("inverted", 1, here)) for i in (6, 7, 8)]
    assert events == [
        *(("note", 0, 2), ("inverted", 2, here), ("rows", 0, 2)),
        *(("note", 3, 5), ("rows", 3, 5)),
        *(event for pair in alone for event in pair),
        *(("note", 6, 8), ("inverted", 3, here), ("rows", 6, 8)),
        *(("note", 9, 10), ("inverted", 2, here), ("rows", 9, 10)),
    ]


class Tight(Other):
    """Has room for a few images."""

    room = 5

    def invert_pixels(self, pixels, n_steps):
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().invert_pixels(pixels, n_steps)


@pytest.mark.parametrize(
    ("room", "says"),
    [
        (5, "a batch of 7 does not fit in memory; --batch-size 4 fits"),
        (1, "--batch-size 1 fits"),
        (
            0,
            "a batch of 7 does not fit in memory, and neither does one image; pass --precision bf16",
        ),
    ],
)
def test_out_of_memory_names_the_size_that_fits(model, inverter, faces, room, says):
    tight = Tight(model)
    tight.room = room
    with pytest.raises(errors.OutOfMemory, match=says):
        list(inverter(model=tight, size=N).rows(iter(faces), Stopwatch()))


@pytest.mark.parametrize(
    ("room", "size"), [(100, 32), (32, 32), (31, 16), (7, 4), (1, 1), (0, None)]
)
def test_the_largest_size_that_fits_is_found_by_trying(model, inverter, room, size):
    tight = Tight(model)
    tight.room = room
    assert batch_size.largest(inverter(model=tight).attempt) == size


def test_other_errors_end_the_search():
    with pytest.raises(Failed):
        batch_size.largest(fail)
    with pytest.raises(RuntimeError, match="device-side assert"):
        batch_size.largest(lambda n: (_ for _ in ()).throw(RuntimeError("device-side assert")))


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (
            {"read": 1, "align": 90, "wait": 60, "invert": 30, "score": 10},
            "60% .*alignment were slow",
        ),
        (
            {"read": 80, "align": 9, "wait": 60, "invert": 30, "score": 10},
            "60% .*reading the shards",
        ),
        (
            {"read": 1, "align": 90, "wait": 1, "invert": 98, "score": 1},
            "1% .*the model was slowest",
        ),
        ({"align": 90, "wait": 1, "invert": 98, "write": 200}, "1% .*writing was slowest"),
    ],
)
def test_how_long_the_device_waited_is_a_sentence(seconds, says):
    assert re.search(f"^the device waited {says}", stopwatch.sentence(seconds))


def test_without_a_device_nothing_is_said():
    assert stopwatch.sentence({"read": 1.0, "edit": 2.0}) is None
    assert stopwatch.sentence({}) is None
