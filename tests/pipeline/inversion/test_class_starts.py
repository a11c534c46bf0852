"""`--init random` with a generator that draws by class: a row's class is its label's, or drawn by its key."""

import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from encoders import ReStyle, load_inverter, save_inverter
from encoders.restyle import from_pixels
from encoders.stepping import Start, Stepper
from generators import Generator
from pipeline import LatentDataset
from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine.local import LocalHost
from pipeline.engine.tasks import InThisProcess
from pipeline.errors import ConfigError
from pipeline.inversion import computation, run
from pipeline.inversion.actor import InversionActor
from pipeline.records import AlignedFace

CLASSES = ["cat", "dog", None, "cow", "dog"]
ALONE = ClusterConfig(executor="local", batch_size=2)


@pytest.fixture(scope="module")
def conditional(tiny_inverter, tmp_path_factory):
    """Path of the small inverter, its generator by two classes."""
    model = load_inverter(tiny_inverter)
    torch.manual_seed(3)
    shape = replace(model.generator.config, c_dim=2, class_names=("cat", "dog"))
    path = tmp_path_factory.mktemp("conditional") / "tiny.safetensors"
    save_inverter(path, ReStyle(model.encoder, Generator(shape), torch.zeros(16), (64, 64)))
    return path


@pytest.fixture
def shard(tmp_path, write_tar):
    members = []
    for i, name in enumerate(CLASSES):
        data = io.BytesIO()
        Image.new("RGB", (64, 64), (40 * i, 90, 200 - 40 * i)).save(data, "png")
        members.append((f"{i}.png", data.getvalue()))
        if name is not None:
            members.append((f"{i}.json", b'{"animal": "%s"}' % name.encode()))
    return write_tar(tmp_path / "s.tar", members)


@pytest.fixture
def rows(shard, conditional, tmp_path, one_thread):
    """A function: the rows of an inversion with random starts."""

    def make(out, **changes):
        config = RunConfig(
            str(conditional), align="none", metrics=(), steps=1, init="random", **changes
        )
        prepared = run.plan_inversion([shard], str(tmp_path / out), config, ALONE)
        workers = replace(prepared.workers, n_in_flight=2, n_threads=1)
        actor = InversionActor(workers, LocalHost(InThisProcess()))
        actor.load()
        actor.process(prepared.pending[0])
        return list(LatentDataset(tmp_path / out)), prepared.settings

    return make


def latent_from(conditional, row, name):
    """After one step from a z that is the row's, as a class."""
    model = load_inverter(conditional)
    face = AlignedFace(0, row["key"], "ok")
    z = computation.z_of(face, 16)[None]
    labels = model.generator.labels_of([name])
    w = model.generator.mapping(z, labels=labels)[:, None].expand(1, 10, -1)
    i = int(row["key"])
    colour = torch.tensor([40 * i, 90, 200 - 40 * i], dtype=torch.uint8)
    images = from_pixels(colour.expand(1, 64, 64, 3))
    [found] = Stepper(model, 1, 1)([Start(images, w)])
    return found.latents[0, 0]


def test_the_class_is_that_of_the_label_and_else_drawn_by_key(rows, conditional):
    found, settings = rows("label", keep_fields=("json",), class_label="animal")
    assert settings["class_label"] == "animal"
    by_key, settings = rows("key")
    assert "class_label" not in settings
    names = ("cat", "dog")
    cat, dog = (latent_from(conditional, found[0], name) for name in names)
    assert (cat - dog).abs().max() > 1e-3  # so that what follows can tell them apart
    for row, other, name in zip(found, by_key, CLASSES, strict=True):
        drawn = names[
            computation.class_of(
                AlignedFace(0, row["key"], "ok", face=-1),
                load_inverter(conditional).generator,
            )
        ]
        torch.testing.assert_close(
            other["latent"], latent_from(conditional, row, drawn), atol=1e-5, rtol=0
        )
        if name == "cow":
            assert row["status"] == "field_error"
            assert row["error"].endswith("no class 'cow'; its classes are cat, dog")
            continue
        expected = latent_from(conditional, row, name or drawn)
        torch.testing.assert_close(row["latent"], expected, atol=1e-5, rtol=0)


def test_a_label_of_classes_without_use_is_refused(shard, conditional, tiny_inverter, tmp_path):
    def refused(says, **changes):
        usual = {"align": "none", "init": "random", "class_label": "cls"}
        config = RunConfig(**{"model": str(conditional)} | usual | changes)
        with pytest.raises(ConfigError, match=says):
            run.plan_inversion([shard], str(tmp_path / "out"), config, ALONE)

    refused("cls is no label of this run; keep it with --keep-fields cls")
    refused("cls is for --init random", init="average", keep_fields=("cls",))
    refused("is for a generator that draws by class", model=str(tiny_inverter))
