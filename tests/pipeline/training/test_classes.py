"""Training by class from shards: where classes stand, which there are, and a run that goes on."""

import json
from contextlib import closing
from itertools import islice

import pytest
import torch
from click.testing import CliRunner
from image_files import grey_png

from generators import load_generator
from jobs.train.generator import generator as command
from pipeline.errors import ConfigError
from pipeline.faces.images import decode
from pipeline.faces.prepare import AlignSettings
from pipeline.records import Sample
from pipeline.shards import labels
from pipeline.training import classes
from pipeline.training.batches import Batches
from pipeline.training.stream import SampleStream, StreamConfig

N = 40
BREEDS = [
    "tabby",
    "siamese",
    None,
    "manx",
]  # of every fourth sample; the last says it in a wrong place
FLAGS = (
    "--resolution 16 --channels 8,8,8 --z-dim 8 --w-dim 8 --n-mapping-layers 1 --n-batches 2 "
    "--batch-size 4 --validate-every 2 --n-held-out 4 --held-out-share 0.3"
)


@pytest.fixture
def shard(tmp_path, write_tar):
    members = []
    for i in range(N):
        breed = BREEDS[i % 4]
        label = {"breed": breed} if breed != "manx" else {"name": "manx"}
        members += [(f"{i:02}.png", grey_png(5 * i)), (f"{i:02}.json", json.dumps(label).encode())]
        members.append((f"{i:02}.cls", str(10 - i % 3).encode()))
    return write_tar(tmp_path / "cats.tar", members)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("cls", {"cls": b"07\n"}, "7"),
        ("cls", {"cls": b"seven"}, None),
        ("cls", {"json": b'{"cls": 3}'}, None),
        ("breed", {"json": b'{"breed": "manx"}'}, "manx"),
        ("breed", {"json": b'{"breed": true}'}, "true"),
        ("breed", {"json": b'{"breed": 2.0}'}, "2"),
        ("breed", {"json": b'{"breed": 2.5}'}, None),
        ("breed", {"json": b'{"breed": ["manx"]}'}, None),
        ("breed", {"json": b'["breed"]'}, None),
        ("breed", {"json": b"{"}, None),
        ("breed", {}, None),
    ],
)
def test_a_class_is_a_text_a_whole_number_or_true(name, fields, expected):
    assert labels.class_of(Sample(0, "a", b"", fields=fields), name) == expected


def test_classes_are_counted_in_the_order_of_labels(shard):
    found = classes.count([shard], "breed")
    assert found.n_by_name == {"siamese": 10, "tabby": 10}
    assert str(found) == (
        "2 classes: siamese (10), tabby (10); 20 samples have none and are left out"
    )
    assert list(classes.count([shard], "cls").n_by_name) == ["8", "9", "10"]
    assert classes.ordered(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert classes.ordered(["10", "9", "a"]) == ["10", "9", "a"]


def test_what_is_no_class_is_refused(shard, monkeypatch):
    with pytest.raises(ConfigError, match=r"have no class by --classes smile; pass cls"):
        classes.count([shard], "smile")
    with pytest.raises(ConfigError, match="one class, 'manx'"):
        classes.count([shard], "name")
    monkeypatch.setattr(classes, "MAX_CLASSES", 2)
    with pytest.raises(ConfigError, match="more than 2 values"):
        classes.count([shard], "cls")


def test_labels_belong_to_their_images_and_samples_of_other_classes_are_left_out(shard):
    of = classes.Classes("breed", ("siamese", "tabby"))
    stream = SampleStream(StreamConfig((shard,), fields=frozenset({of.field})))
    with closing(
        Batches(stream, 4, AlignSettings("none", "largest", 16, 16), classes=of)
    ) as batches:
        found = list(islice(batches, 5))
    for batch in found:
        expected = [[float(int(key) % 4 == 1), float(int(key) % 4 == 0)] for key in batch.keys]
        assert batch.labels.tolist() == expected
    assert len({key for batch in found for key in batch.keys}) == 20
    assert 0 < found[-1].n_failed <= 20


def run(arguments):
    return CliRunner().invoke(command, arguments.split(), catch_exceptions=True)


def test_a_generator_is_trained_by_class_and_goes_on(shard, tmp_path, monkeypatch):
    out = tmp_path / "gan"
    arguments = f"{shard} --out {out} {FLAGS} --classes breed"
    first = run(arguments)
    assert first.exit_code == 0, first.exception
    assert "2 classes: siamese (10), tabby (10)" in first.output
    settings = json.loads((out / "settings.json").read_text())
    assert settings["classes"] == "breed"
    assert settings["class_names"] == ["siamese", "tabby"]
    generator = load_generator(out / "last.safetensors")
    assert generator.class_names == ("siamese", "tabby")
    generator(torch.randn(1, 8), labels=generator.labels_of(["tabby"]))
    assert decode((out / "samples.jpg").read_bytes()).shape == (48, 64, 3)  # real, and two classes
    # A folder that goes on has its classes: nothing is read to count them again.
    monkeypatch.setattr(classes.SampleStream, "of_shard", None)
    assert classes.of_run(out, "breed", [shard]) == ("siamese", "tabby")
    assert classes.of_run(out, "cls", [shard]) is None
    assert classes.of_run(out, "breed", [shard, shard]) is None
    monkeypatch.undo()
    before = (out / "last.safetensors").read_bytes()
    again = run(arguments)
    assert again.exit_code == 0, again.exception
    assert "2 classes" not in again.output
    assert (out / "last.safetensors").read_bytes() == before
    other = run(f"{arguments} --class-names tabby,siamese")
    assert "class_names" in str(other.exception)


def test_declared_names_are_not_counted_and_need_to_know_where(shard, tmp_path, monkeypatch):
    named = f"{shard} --out {tmp_path / 'gan'} {FLAGS} --class-names 10,9"
    assert "--class-names are those of --classes" in run(named).output
    found = run(f"{named} --classes cls")
    assert found.exit_code == 0, found.exception
    assert "classes:" not in found.output
    assert load_generator(tmp_path / "gan" / "last.safetensors").class_names == ("10", "9")
