"""Directions learned from labels that are known to lie along known ones."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.editing.learning import LearnConfig, _projected, fit, learn, save
from pipeline.editing.sides import sides
from pipeline.errors import ConfigError

N_SHARDS, N_ROWS = 4, 150


@pytest.fixture(scope="module")
def world(make_latents, tmp_path_factory):
    """Latents in which `smile` and `age` have a direction each, and go together in the data."""
    source = np.random.default_rng(0)
    n = N_SHARDS * N_ROWS
    smile = source.normal(size=n)
    age = 0.7 * smile + 0.7 * source.normal(size=n)
    axes = source.normal(size=(2, 10, 16))
    axes /= np.linalg.norm(axes, axis=(1, 2), keepdims=True)
    axes[1] -= (axes[0] * axes[1]).sum() * axes[0]
    latents = source.normal(size=(n, 10, 16)) + 4 * (
        smile[:, None, None] * axes[0] + age[:, None, None] * axes[1]
    )
    labels = {
        "smile": smile,
        "age": age,
        "happy": smile > 0,
        "mood": np.where(smile > 0, "glad", "calm"),
        "city": np.array(["rome", "oslo", "bern"])[np.arange(n) % 3],
        "twin": smile * 2 + 1,
        "noise": source.normal(size=n),
        "rare": (np.arange(n) == 0).astype(int),
        "parts": np.where(np.arange(n) % 2, smile, np.nan),
    }
    folder = tmp_path_factory.mktemp("learn") / "latents"
    made = make_latents(folder, N_SHARDS, N_ROWS, labels, latents.astype(np.float32))
    columns = {name: pa.chunked_array([pa.array(values)]) for name, values in labels.items()}
    return SimpleNamespace(path=made.path, latents=made.latents, axes=axes, columns=columns)


def fitted(world, *words, **settings):
    """Without the way through a folder."""
    return fit(world.latents, world.columns, LearnConfig(*words, **settings))


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def test_labels_may_come_from_a_file(world, tmp_path):
    keys = [f"{i // N_ROWS}/{i % N_ROWS}.jpg" for i in range(len(world.latents))]
    mood = ["glad" if yes else "calm" for yes in world.columns["happy"].to_pylist()]
    path = tmp_path / "people.csv"
    path.write_text(
        "".join(f"{a};{b}\n" for a, b in [("file", "spirit"), *zip(keys, mood, strict=True)])
    )
    config = LearnConfig("spirit", positive="glad", label_file=str(path), label_on="file")
    assert cosine(learn(world.path, config).vectors, world.axes[0]) > 0.6
    path.write_text("key,spirit\nanna,glad\n")
    with pytest.raises(ConfigError, match=r"keys there are such as anna, and of the rows 0/0, 0/1"):
        learn(world.path, LearnConfig("spirit", label_file=str(path)))


@pytest.mark.parametrize("label", ["smile", "label_smile", "happy", "parts"])
def test_a_label_finds_its_direction(world, label):
    found = learn(world.path, LearnConfig(label))
    assert cosine(found.vectors, world.axes[0]) > 0.6
    assert found.target.accuracy > 0.85
    assert found.target.majority < 0.65
    low, high = found.target.interval
    assert 0.5 < low < found.target.accuracy < high < 1
    assert found.target.n_test == pytest.approx(0.2 * found.about["n_rows"], abs=1)


def test_strength_one_is_a_standard_deviation(world):
    step = fitted(world, "smile").vectors
    along = (world.latents * step).sum(axis=(1, 2)) / (step**2).sum()
    assert along.std() == pytest.approx(1, abs=0.05)


def test_conditions_are_projected_out(world):
    plain, age = fitted(world, "smile"), fitted(world, "age")
    conditioned = fitted(world, "smile", conditions=("age",))
    assert cosine(plain.vectors, age.vectors) > 0.3
    assert abs(cosine(conditioned.vectors, age.target.normal.reshape(10, 16))) < 1e-5
    other = world.axes[1]
    assert abs(cosine(conditioned.vectors, other)) < cosine(plain.vectors, other)
    assert 0 < conditioned.remainder < 1
    assert [b.label for b in conditioned.conditions] == ["age"]


def test_a_condition_named_twice_is_one():
    normal, other = np.eye(5)[0] + 0.1, np.eye(5)[1] + 0.2
    once, twice = _projected(normal, [other]), _projected(normal, [other, other])
    np.testing.assert_allclose(once[0], twice[0], atol=1e-12)
    assert once[1] == pytest.approx(twice[1])


def test_only_sure_rows_teach_and_a_rare_yes_loses_none():
    normal = pa.chunked_array([np.random.default_rng(0).normal(size=1000)])
    found = sides(normal, "smile")
    assert np.abs(normal.to_numpy()[~found.is_confident]).max() < 0.6
    assert 0.3 < 1 - found.is_confident.mean() < 0.45
    rare = pa.chunked_array([np.arange(1000) < 30])
    for values in (rare, rare.cast(pa.int64())):
        found = sides(values, "glasses")
        assert found.is_confident.all()
        assert found.is_positive.sum() == 30


def test_a_label_of_nothing_is_told_no_better_than_by_chance(world):
    assert abs(fitted(world, "noise").target.accuracy - 0.5) < 0.15


def test_layers_thresholds_texts_and_fewer_rows(world):
    found = fitted(world, "smile", layers=(2, 3), threshold=0.5)
    assert np.abs(found.vectors[[2, 3]]).sum() > 0
    assert np.abs(np.delete(found.vectors, [2, 3], axis=0)).sum() == 0
    assert found.about["yes"] == "above 0.5"
    glad, calm = fitted(world, "mood"), fitted(world, "mood", positive="calm")
    assert glad.about["yes"] == "'glad'"
    assert cosine(glad.vectors, calm.vectors) == pytest.approx(-1, abs=0.05)  # held out: others
    few, again = (learn(world.path, LearnConfig("smile", max_rows=200)) for _ in range(2))
    assert few.about["n_rows"] == 200
    assert np.array_equal(few.vectors, again.vectors)


def test_its_file_is_one_that_edit_takes(world, tmp_path):
    from generators import directions
    from generators.files import checkpoint

    found = fitted(world, "smile", conditions=("age",))
    path = tmp_path / "smile.safetensors"
    save(str(path), found)
    assert np.array_equal(directions.load(path, 10, 16).numpy(), found.vectors)
    header = checkpoint.read_header(path)
    assert header.config["conditions"] == ["age"]
    assert "held out" in header.notes


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"label": "frown"}, r"no label 'frown' \(it has smile, age, happy"),
        ({"label": "city"}, r"city has 3 values \('bern', 'oslo', 'rome' ...\); pass one as --pos"),
        ({"label": "city", "positive": "paris"}, "pass one as --positive"),
        ({"label": "rare"}, "1 are on one side of its boundary"),
        ({"label": "smile", "threshold": 99.0}, "0 are on one side"),
        ({"label": "smile", "conditions": ("twin",)}, "cannot be told from twin"),
        ({"label": "smile", "layers": (10,)}, "must lie in 0 to 9"),
        ({"label": "smile", "conditions": ("label_smile",)}, "cannot be told from label_smile"),
        ({"label": "smile", "max_rows": 30}, "30 rows of .* at least 40 are needed"),
        ({"label": "latent"}, "latent is a column of"),
    ],
)
def test_refusals(world, config, says):
    with pytest.raises(ConfigError, match=says):
        learn(world.path, LearnConfig(**config))
