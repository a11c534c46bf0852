"""The training loop: it goes on to the same weights, keeps the best, and stops loudly."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
import tiny_trainings
import torch

from encoders import load_inverter
from encoders.training.distillation import DistillationTrainer
from generators.training.protocol import NotFinite
from pipeline.errors import ConfigError
from pipeline.faces.images import decode
from pipeline.portraits import shards as portrait_shards
from pipeline.training import rendered, state
from pipeline.training.config import LoopConfig, RenderConfig
from pipeline.training.interruption import Interruption
from pipeline.training.loop import train
from pipeline.training.pace import Pace, duration

TINY = tiny_trainings.distillation(discriminator_start=2)


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portraits")
    paths = portrait_shards.write(
        str(folder / "%02d.tar"), 24, size=16, view="aligned", seed=1, per_shard=12
    )
    return tuple(map(str, paths))


@pytest.fixture
def config(tmp_path, urls):
    return LoopConfig(
        out=str(tmp_path),
        shards=urls[:1],
        held_out=urls[1:],
        n_batches=6,
        batch_size=4,
        z_dim=76,
        chunk=5,
        n_held_out=3,
        validate_every=2,
        checkpoint_every=3,
        log_every=2,
    )


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class Stop(Exception):
    pass


class Interrupted(DistillationTrainer):
    """A trainer that is stopped in its fifth batch, after a checkpoint and some more."""

    def step(self, images, z=None, labels=None):
        if self.global_step == 4:
            raise Stop
        return super().step(images, z)


def test_portraits_drawn_on_the_way_train_like_those_of_shards(config, tmp_path, monkeypatch):
    monkeypatch.setattr(rendered, "PER_SHARD", 12)
    drawn = RenderConfig(True, 12, portraits_seed=1, held_out_seed=2)
    changes = {"shards": rendered.shards(drawn), "held_out": (), "rendered": drawn, "n_batches": 3}
    outs = [replace(config, out=str(tmp_path / name)) for name in ("read", "drawn")]
    for out, change in zip(outs, ({"n_batches": 3}, changes), strict=True):
        (tmp_path / out.out).mkdir()
        train(DistillationTrainer(TINY), replace(out, **change), "test")
    read, drawn = (
        [e for e in log(tmp_path / n) if e["kind"] == "train"] for n in ("read", "drawn")
    )
    assert read[-1]["direct"] == pytest.approx(drawn[-1]["direct"], rel=1e-3)


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bytes(config, tmp_path):
    whole = replace(config, out=str(tmp_path / "whole"))
    parts = replace(config, out=str(tmp_path / "parts"))
    for each in (whole, parts):
        (tmp_path / each.out).mkdir()
    train(DistillationTrainer(TINY), whole, "test")
    with pytest.raises(Stop):
        train(Interrupted(TINY), parts, "test")
    assert not (tmp_path / "parts" / "best.safetensors").samefile(
        tmp_path / "parts" / "last.safetensors"
    )
    torch.rand(7)  # the process has another history
    train(DistillationTrainer(replace(TINY, seed=0)), parts, "test")
    names = {path.name for path in (tmp_path / "whole").glob("*.safetensors")}
    assert {"last.safetensors", "best.safetensors", "last.generator.safetensors"} <= names
    for name in names:
        one, two = ((tmp_path / f / name).read_bytes() for f in ("whole", "parts"))
        assert one == two, name


class Signalled(DistillationTrainer):
    """A trainer that Ctrl-C comes to in the middle of its fifth batch."""

    def step(self, images, z=None, labels=None):
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(images, z)


def test_ctrl_c_saves_and_a_run_goes_on_to_the_same_bytes(config, tmp_path, capfd):
    whole = replace(config, out=str(tmp_path / "whole"))
    parts = replace(config, out=str(tmp_path / "parts"), checkpoint_every=100)
    for each in (whole, parts):
        (tmp_path / each.out).mkdir()
    train(DistillationTrainer(TINY), whole, "test")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(Signalled(TINY), parts, "test")
    assert signal.getsignal(signal.SIGINT) is handler
    shown = capfd.readouterr()
    assert "stopping after this batch" in shown.err
    assert "the training is saved after 5 of 6 batches" in shown.out
    assert torch.load(tmp_path / "parts" / state.STATE, weights_only=True)["n_done"] == 5
    train(DistillationTrainer(TINY), parts, "test")
    for name in ("last.safetensors", "best.safetensors"):
        one, two = ((tmp_path / f / name).read_bytes() for f in ("whole", "parts"))
        assert one == two, name


def _signalled_between_batches(save):
    with Interruption(save):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def _signalled_twice_within_one(save):
    with Interruption(save) as interruption, interruption.held_back():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


@pytest.mark.parametrize(
    ("block", "n_saved"), [(_signalled_between_batches, 1), (_signalled_twice_within_one, 0)]
)
def test_a_signal_between_batches_and_a_second_one_are_obeyed_at_once(block, n_saved):
    saved = []
    with pytest.raises(KeyboardInterrupt):
        block(lambda: saved.append(1))
    assert len(saved) == n_saved


def test_a_checkpoint_comes_by_time_too(config, tmp_path):
    by_time = replace(config, checkpoint_every=100, checkpoint_minutes=0.0)
    with pytest.raises(Stop):
        train(Interrupted(TINY), by_time, "test")
    assert torch.load(tmp_path / state.STATE, weights_only=True)["n_done"] == 4


class Worse(DistillationTrainer):
    """A trainer whose validations say that it gets worse and worse."""

    def validate(self, images, z=None, labels=None):
        return replace(super().validate(images, z), score=float(self.global_step))


def test_validations_leave_pictures_and_say_when_there_is_no_gain(config, tmp_path, capsys):
    train(Worse(TINY), replace(config, validate_every=1), "test")
    shown = capsys.readouterr().out
    assert "no gain for 2 validations" not in shown
    assert "no gain for 3 validations: the best score, 1, is that of batch 1, kept in best" in shown
    assert "no gain for 5 validations" in shown
    assert decode((tmp_path / "samples.jpg").read_bytes()).shape == (5 * 16, 3 * 16, 3)
    notes = [e["text"] for e in log(tmp_path) if e["kind"] == "note"]
    assert notes[0].startswith("the first batch took")
    assert all(text.startswith("no gain for") for text in notes[1:])


def test_the_pace_is_told_once_and_counts_the_steps_to_come():
    pace = Pace(100, lambda global_step: 1.0 if global_step < 50 else 3.0)
    assert pace.after(1, 99.0) is None  # the first also compiles
    said = [pace.after(n, 2.0) for n in range(2, 40)]
    assert [n for n, sentence in enumerate(said, 2) if sentence] == [17]
    # 33 batches of 2 s and 50 of 6 s
    assert "a batch takes 2 s, so the 83 that are left take about 6 min" in said[15]
    assert Pace(9, float).after(9, 1.0) is None
    assert [duration(s) for s in (45, 720, 11_100, 100_800)] == [
        "45 s",
        "12 min",
        "3 h 5 min",
        "1 day 4 h",
    ]


@pytest.mark.slow
def test_a_finished_run_does_nothing_more(config, tmp_path):
    train(DistillationTrainer(TINY), config, "test")
    before = (tmp_path / "last.safetensors").read_bytes()
    n_entries = len(log(tmp_path))
    train(DistillationTrainer(TINY), config, "test")
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert len(log(tmp_path)) == n_entries


@pytest.mark.slow
def test_what_it_leaves_can_be_used(config, tmp_path):
    train(DistillationTrainer(TINY), config, "the command")
    for name in ("last", "best"):
        model = load_inverter(tmp_path / f"{name}.safetensors")
        assert model.generator.resolution == 16
        assert model.invert(torch.zeros(1, 3, 16, 16), 2).latents.isfinite().all()


@pytest.mark.slow
def test_the_log_tells_terms_speed_and_every_step(config, tmp_path):
    train(DistillationTrainer(TINY), config, "test")
    entries = log(tmp_path)
    trained = [e for e in entries if e["kind"] == "train"]
    assert [e["batch"] for e in trained] == [2, 4, 6]
    assert all(e["images_per_s"] > 0 and e["failed_samples"] == 0 for e in trained)
    assert "discriminator" not in trained[0]
    assert "discriminator" in trained[1]
    checked = [e for e in entries if e["kind"] == "validation"]
    assert [e["batch"] for e in checked] == [2, 4, 6]
    assert {"mse/direct", *(f"mse/step{i}" for i in range(1, 6))} <= checked[0].keys()
    assert "mse/step6" not in checked[0]


@pytest.mark.slow
def test_tensorboard_shows_scalars_and_pictures(config, tmp_path):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    train(DistillationTrainer(TINY), config, "test")
    [file] = (tmp_path / "tensorboard").iterdir()
    data, tags = file.read_bytes(), set()
    while data:
        n = int.from_bytes(data[:8], "little")
        assert masked_crc32c(data[12 : 12 + n]) == int.from_bytes(data[12 + n : 16 + n], "little")
        event = Event.FromString(data[12 : 12 + n])
        tags |= {value.tag for value in event.summary.value}
        data = data[16 + n :]
    assert {"train/direct", "train/images_per_s", "validation/mse/step5", "steps"} <= tags


@pytest.mark.slow
def test_no_number_stops_it_and_keeps_the_batch(config, tmp_path):
    class Poisoned(DistillationTrainer):
        def step(self, images, z=None, labels=None):
            if self.global_step == 4:
                images = images.clone()
                images[1] = torch.nan
            return super().step(images, z)

    with pytest.raises(NotFinite, match="training stopped.*lower learning rate"):
        train(Poisoned(TINY), config, "test")
    saved = torch.load(tmp_path / "not_finite.0.pt", weights_only=True)
    assert saved["images"].shape == (4, 3, 16, 16)
    assert len(saved["keys"]) == 4
    assert torch.load(tmp_path / state.STATE, weights_only=True)["n_done"] == 3


@pytest.mark.slow
def test_a_broken_shard_is_told(config, tmp_path, urls, capsys):
    broken = tmp_path / "broken.tar"
    broken.write_text("no tar")
    train(DistillationTrainer(TINY), replace(config, shards=(str(broken), *urls[:1])), "test")
    assert "broken.tar is not a whole tar file" in capsys.readouterr().out
    assert log(tmp_path)[-1]["batch"] == 6


@pytest.mark.slow
def test_validating_changes_nothing(config, tmp_path):
    often = replace(config, out=str(tmp_path / "often"), validate_every=1, checkpoint_every=1)
    seldom = replace(config, out=str(tmp_path / "seldom"), validate_every=6, checkpoint_every=6)
    for each in (often, seldom):
        (tmp_path / each.out).mkdir()
        train(DistillationTrainer(TINY), each, "test")
    one, two = ((tmp_path / f / "last.safetensors").read_bytes() for f in ("often", "seldom"))
    assert one == two


def test_a_folder_of_another_training_is_refused(tmp_path):
    state.claim(tmp_path, {"rate": 3.0, "out": "x"}, frozenset({"out"}))  # it learned nothing
    state.claim(tmp_path, {"rate": 1.0, "out": "x"}, frozenset({"out"}))
    state.save(tmp_path, {})
    state.claim(tmp_path, {"rate": 1.0, "out": "y"}, frozenset({"out"}))
    with pytest.raises(ConfigError, match=r"rate: 1\.0 there, 2\.0 now.*--start-from"):
        state.claim(tmp_path, {"rate": 2.0, "out": "y"}, frozenset({"out"}))


def test_a_folder_with_the_settings_earlier_names_continues(tmp_path):
    (tmp_path / state.STATE).touch()
    (tmp_path / state.SETTINGS).write_text('{"square": 1.0, "rate_critic": 0.1, "r1": 2.0}')
    now = {"l2": 1.0, "discriminator_learning_rate": 0.1, "r1_gamma": 2.0}
    state.claim(tmp_path, now, frozenset())
    with pytest.raises(ConfigError, match=r"l2: 1\.0 there, 3\.0 now"):
        state.claim(tmp_path, now | {"l2": 3.0}, frozenset())


def test_a_damaged_state_is_said(tmp_path):
    (tmp_path / state.STATE).write_bytes(b"no state")
    with pytest.raises(ConfigError, match=r"state\.pt cannot be read.*delete it"):
        state.load(tmp_path)
