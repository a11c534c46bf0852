"""Rows drawn by generators that were tuned for them: rendered, edited, found again, refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from generators import CheckpointError, delta, directions
from generators.files import checkpoint
from jobs.cli import cli
from pipeline.config import ClusterConfig
from pipeline.editing import pivots
from pipeline.editing.actor import EditorActor
from pipeline.editing.edit import EditConfig, plan_edit
from pipeline.editing.interpolation import PathConfig, interpolate
from pipeline.editing.render import RenderConfig, render
from pipeline.editing.tuned import FilePivots
from pipeline.engine.local import LocalHost
from pipeline.engine.run_folder import RunFolder
from pipeline.engine.tasks import InThisProcess
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import alignment, images
from pipeline.latents import LatentDataset
from pipeline.models import LatentRenderer

QUAD = np.array([[20, 10], [20, 50], [60, 50], [60, 10]], np.float32)
N_STEPS = 3


@pytest.fixture
def latents(make_latents, tmp_path, write_tar, photo):
    """A folder of two shards beside their tars; three rows of each have a latent."""
    made = make_latents(tmp_path / "latents", n_rows=4, quad=QUAD)
    for s in range(2):
        write_tar(tmp_path / f"{s:03}.tar", [(f"{s}/{i}.png", photo(10 * s + i)) for i in range(4)])
    return made


def draw(made, out, **settings):
    how = {"format": "png", "pivot": N_STEPS, **settings}
    return render(getattr(made, "path", made), str(out), RenderConfig(**how), lambda n: None)


def kept(folder):
    return {p.name: p.read_bytes() for p in Path(folder, pivots.FOLDER).glob("*.safetensors")}


def picture(path):
    return images.decode(Path(path).read_bytes()).astype(int)


def off(drawn, number, photo):
    """Mean squared error of a picture that was drawn of a photo."""
    crop = alignment.crop(images.decode(photo(number)), QUAD, 64, 256)
    return np.square(drawn - crop.astype(int)).mean()


def test_two_rows_come_closer_by_one_command(latents, tmp_path, photo):
    where = ("render", latents.path, "--keys", "0/1,1/2", "--format", "png")
    for name, more in (("plain", ()), ("tuned", ("--pivot", "8"))):
        said = CliRunner().invoke(cli, [*where, "--out", str(tmp_path / name), *more])
        assert said.exit_code == 0, said.output
    assert "generator: tuned for 2 rows in" in said.output
    assert sorted(name.partition(".")[0] for name in kept(latents.path)) == ["0_1", "1_2"]
    for number, path in ((1, "0/1.png"), (12, "1/2.png")):
        plain, tuned = (
            off(picture(tmp_path / n / path), number, photo) for n in ("plain", "tuned")
        )
        assert tuned < 0.9 * plain
    again = CliRunner().invoke(cli, [*where, "--out", str(tmp_path / "again"), "--pivot", "8"])
    assert "generator: 2 rows tuned before" in again.output
    for path in ("0/1.png", "1/2.png"):
        assert np.array_equal(
            picture(tmp_path / "again" / path), picture(tmp_path / "tuned" / path)
        )


def test_a_row_is_tuned_alike_whatever_is_selected_beside_it(latents, tmp_path):
    draw(latents, tmp_path / "one", keys=("0/1",))
    alone = kept(latents.path)
    done = draw(latents, tmp_path / "all", pivots=str(tmp_path / "elsewhere"))
    assert (done.tunings.n_tuned, done.tunings.n_there) == (6, 0)
    [(name, content)] = alone.items()
    assert (tmp_path / "elsewhere" / name).read_bytes() == content
    assert draw(latents, tmp_path / "more", limit=2).tunings.n_there == 1


def test_an_edit_is_drawn_by_its_rows_generator(latents, tmp_path, photo):
    direction = np.random.default_rng(1).normal(size=latents.shape).astype(np.float32)
    directions.save(tmp_path / "d.safetensors", torch.from_numpy(direction), {}, "")
    config = EditConfig(
        directions=(str(tmp_path / "d.safetensors"),),
        strengths=(0.0, 3.0),
        where="key in ['0/0', '0/1']",
        save_images=True,
        pivot=N_STEPS,
    )
    out = tmp_path / "edited"
    plan = plan_edit(latents.path, str(out), config, ClusterConfig(gpus_per_actor=0), dry_run=True)
    assert (plan.settings["edit_pivot"], len(plan.pending)) == (N_STEPS, 2)
    RunFolder(plan.out).write_run_record(plan.settings, plan.tasks, overwrite=False)
    workers = replace(plan.workers, n_threads=torch.get_num_threads())
    editor = EditorActor(workers, LocalHost(InThisProcess()))
    editor.load()
    report = editor.process(plan.pending[0])
    assert "tune" in report.seconds
    rows = LatentDataset(str(out)).table(["key", "strength", "reconstruction"]).to_pylist()
    assert [(row["key"], row["strength"]) for row in rows] == [
        ("0/0", 0.0), ("0/0", 3.0), ("0/1", 0.0), ("0/1", 3.0)
    ]  # fmt: skip
    assert kept(out) == kept(latents.path)
    # At strength 0 it is the row itself, by the same delta; drawn of the edits, the same once more.
    draw(latents, tmp_path / "rows", keys=("0/1",))
    done = draw(str(out), tmp_path / "edits", pivot=None)
    assert (done.tunings.n_tuned, done.tunings.n_there) == (0, 2)
    of_row = picture(tmp_path / "rows/0/1.png")
    assert np.abs(picture(tmp_path / "edits/0/1_d+0.png") - of_row).max() <= 1
    assert np.abs(images.decode(rows[2]["reconstruction"]).astype(int) - of_row).mean() < 4
    moved, untuned = tmp_path / "edits/0/1_d+3.png", tmp_path / "untuned/0/1_d+3.png"
    draw(str(out), tmp_path / "untuned", pivot=0)
    # Into the photo goes what differs between two pictures by the one generator: here, nothing.
    draw(str(out), tmp_path / "pasted", pivot=None, paste_back="difference")
    same, other = (picture(tmp_path / f"pasted/0/1_d+{s}.png") for s in (0, 3))
    assert np.abs(same - images.decode(photo(1))).max() <= 1
    assert np.abs(other - same)[15:45, 25:55].mean() > 0.5
    assert np.abs(picture(moved) - of_row).mean() > 0.5
    assert np.abs(picture(moved) - picture(untuned)).mean() > 0.5
    for path in Path(out, pivots.FOLDER).iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="pass --pivots with _run/pivots of the latents"):
        draw(str(out), tmp_path / "lost", pivot=None)


def test_a_path_begins_and_ends_at_pictures_that_were_tuned_to(latents, tmp_path):
    config = PathConfig(("0/1", "1/2"), steps=2, pivot=N_STEPS)
    assert interpolate(latents.path, str(tmp_path / "frames"), config) == 3
    done = draw(latents, tmp_path / "out", keys=("0/1", "1/2"))
    assert (done.tunings.n_tuned, done.tunings.n_there) == (0, 2)
    first, middle, last = map(picture, sorted((tmp_path / "frames").iterdir()))
    for frame, path in ((first, "0/1.png"), (last, "1/2.png")):
        assert np.abs(frame - picture(tmp_path / "out" / path)).max() <= 1
    assert np.abs(middle - (first + last) / 2).mean() < np.abs(first - last).mean()


def test_another_rows_weights_and_damaged_ones_are_refused(latents, tmp_path):
    draw(latents, tmp_path / "out", keys=("0/0", "0/1"))
    first, second = sorted(Path(latents.path, pivots.FOLDER).iterdir())
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="tuned for another row .*, not for 0/1; delete it"):
        draw(latents, tmp_path / "other", keys=("0/1",))
    first.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        draw(latents, tmp_path / "damaged", keys=("0/0",))


def test_lpips_is_made_small_too_where_its_files_are_given(latents, tmp_path, lpips_files):
    files = dict(zip(("lpips_weights", "lpips_heads"), lpips_files, strict=True))
    draw(latents, tmp_path / "mse", keys=("0/1",))
    done = draw(latents, tmp_path / "both", keys=("0/1",), pivot_lpips=0.5, **files)
    assert done.tunings.n_tuned == 1
    stated = [
        delta.origin_of(checkpoint.read_header(path), path).settings for path in both(latents)
    ]
    assert sorted("lpips 0.5 of " in text for text in stated) == [False, True]
    with pytest.raises(ConfigError, match="--pivot-lpips needs --lpips-weights, torchvision's"):
        draw(latents, tmp_path / "out", pivot_lpips=1.0, lpips_heads=lpips_files[1])


def both(latents):
    return sorted(Path(latents.path, pivots.FOLDER).iterdir())


def test_a_saved_crop_is_tuned_to_without_its_shard(latents, tmp_path, photo):
    files = LatentDataset(latents.path)
    record = {**files.footer, "shard": str(tmp_path / "000.tar")}
    crop = alignment.crop(images.decode(photo(1)), QUAD, 64, 256)
    row = {"key": "0/1", "sample_index": 1, "face": 0, "latent": latents.latents[1]}
    where = {
        "shard": {"quad": QUAD, "width": 80, "height": 60},
        "saved": {"quad": QUAD, "aligned_image": images.encode_png(crop)},
    }
    for name, more in where.items():
        chosen = pivots.chosen(
            RenderConfig(pivot=2, pivots=str(tmp_path / name)), latents.path, record
        )
        of_file = FilePivots(chosen, LatentRenderer(record), record)
        of_file.of({**row, **more})
        (tmp_path / "000.tar").unlink(missing_ok=True)
    first, second = (next((tmp_path / name).iterdir()) for name in where)
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(ConfigError, match="the picture of 0/2 is damaged"):
        of_file.of({**row, "key": "0/2", "aligned_image": b"no picture"})


def test_many_rows_want_to_be_confirmed(latents, tmp_path, monkeypatch):
    monkeypatch.setattr(pivots, "MAX_ROWS", 2)
    with pytest.raises(
        ConfigError, match=r"6 rows are selected, .* takes about .* --keys or --limit"
    ):
        draw(latents, tmp_path / "out")
    edit = EditConfig(directions=("sefa:0",), save_images=True, pivot=N_STEPS, where="mse < 1")
    with pytest.raises(ConfigError, match="6 rows are selected, .* choose them with --where"):
        plan_edit(latents.path, str(tmp_path / "e"), edit, ClusterConfig(), dry_run=True)
    assert draw(latents, tmp_path / "out", limit=2).n_written == 2
    assert draw(latents, tmp_path / "all", pivot_many=True).tunings.n_tuned == 4


def test_refusals(latents, tmp_path):
    with pytest.raises(ConfigError, match="add --save-images"):
        EditConfig(directions=("sefa:0",), pivot=N_STEPS)
    with pytest.raises(ConfigError, match="--pivots goes with --pivot"):
        draw(latents, tmp_path / "out", pivot=None, pivots="p")
    with pytest.raises(ConfigError, match="a local folder, not in s3://bucket/p; pass one"):
        draw(latents, tmp_path / "out", pivots="s3://bucket/p")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make .*; pass another folder as --pivots"):
        draw(latents, tmp_path / "out", pivots=str(tmp_path / "file"), limit=1)
    with pytest.raises(ShardError):
        draw(latents, tmp_path / "out", photos=str(tmp_path / "none"), limit=1)
    (tmp_path / "000.tar").unlink()
    with pytest.raises(ConfigError, match="0/0 has no saved crop .* --save-images keeps the crops"):
        draw(latents, tmp_path / "out", limit=1)


def test_durations_are_told_in_words_of_their_size():
    words = [pivots.duration(s) for s in (0.2, 100, 150, 7300, 200_000)]
    assert words == ["1 s", "100 s", "2 minutes", "2 hours", "2 days"]
