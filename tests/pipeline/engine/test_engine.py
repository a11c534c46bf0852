"""The whole way in this process: rows, order, stores. test_faults.py goes it on a real Ray cluster."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs as pafs

from pipeline import LatentDataset, report
from pipeline.engine import audit, progress
from pipeline.errors import ConfigError
from pipeline.report import comparison


@pytest.fixture(scope="module")
def bucket():
    """A real S3 server on loopback: its filesystem, and a function from keys to s3:// addresses."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = f"scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        files, _ = pafs.FileSystem.from_uri(f"s3://data?{options}&allow_bucket_creation=true")
        files.create_dir("data")
        yield files, lambda key: f"s3://{key}?{options}"
    server.stop()


@pytest.fixture(scope="module")
def shards(tmp_path_factory, write_tar, photo):
    """Four shards of five samples, two samples of each without an image that can be read."""
    folder = tmp_path_factory.mktemp("engine") / "shards"
    folder.mkdir()
    for s in range(4):
        members = [(f"{s}/{i}.png", photo(10 * s + i)) for i in range(3)]
        members.insert(1, (f"{s}/broken.jpg", b"no image"))
        members.append((f"{s}/text.txt", b"no image either"))
        write_tar(folder / f"{s:03}.tar", members)
    return folder


@pytest.fixture(scope="module")
def whole(invert_to, shards):
    """One run for several tests: what it said, and where its rows are."""
    out = str(shards.parent / "whole")
    return invert_to(out, shards, latents="all"), out


def content(folder):
    """Rows of a folder in a fixed order, as bytes of each file."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


@pytest.mark.slow
def test_rows_written_are_samples_read_in_order(whole):
    summary, out = whole
    assert (summary.n_shards, summary.n_samples, summary.n_rows) == (4, 20, 20)
    assert summary.n_by_status == {"ok": 12, "decode_error": 4, "missing_image": 4}
    assert set(summary.seconds) == {"read", "align", "wait", "invert", "score", "write"}
    table = LatentDataset(out).table()
    assert table["sample_index"].to_pylist() == [0, 1, 2, 3, 4] * 4
    keys = [f"{s}/{name}" for s in range(4) for name in ("0", "broken", "1", "2", "text")]
    assert table["key"].to_pylist() == keys
    assert table["status"].to_pylist()[:5] == ["ok", "decode_error", "ok", "ok", "missing_image"]
    assert table["mse"][0].as_py() is not None
    assert len(table["mse"][0].as_py()) == 2
    assert [(a.n_rows, a.problems) for a in audit.verify(out, audit.files(out))] == [(5, [])] * 4


def test_latents_are_those_of_the_model(whole, tiny_inverter, photo):
    import torch

    from encoders import load_inverter
    from pipeline.faces import images

    row = LatentDataset(whole[1])[0]
    pixels = torch.from_numpy(images.decode(photo(0))).permute(2, 0, 1)[None] / 127.5 - 1
    alone = load_inverter(tiny_inverter).invert(pixels, n_steps=2)
    # The pipeline resizes 8-bit pixels, the model floats: rounding apart, the same.
    np.testing.assert_allclose(row["latents_by_step"], alone.latents[:, 0], atol=0.02)
    np.testing.assert_array_equal(row["latents_by_step"][-1], row["latent"])


@pytest.mark.slow
def test_two_models_one_after_the_other_and_lpips(
    invert, shards, tmp_path, tiny_inverter, make_inverter, lpips_files, photo
):
    import torch

    from encoders import bootstrap, load_inverter
    from pipeline.faces import images

    second = make_inverter(seed=7)
    weights, heads = lpips_files
    settings = {"metrics": ("lpips", "mse"), "lpips_weights": weights, "lpips_heads": heads}
    invert(shards, then=str(second), latents="all", **settings)
    ds = LatentDataset(str(tmp_path / "out"))
    pixels = torch.from_numpy(images.decode(photo(0))).permute(2, 0, 1)[None] / 127.5 - 1
    both = bootstrap(load_inverter(tiny_inverter), load_inverter(second)).invert(pixels, n_steps=2)
    np.testing.assert_allclose(ds[0]["latents_by_step"], both.latents[:, 0], atol=0.02)
    assert len(ds[0]["lpips"]) == 2
    assert ds[0]["lpips"][0] > 0
    with pytest.raises(ConfigError, match="first_encoder_sha256: .*there, None now"):
        invert(shards, latents="all", **settings)
    content = torch.load(heads)
    content["lin0.model.1.weight"] += 0.5
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="lpips_sha256"):
        invert(
            shards, then=str(second), latents="all",
            **{**settings, "lpips_heads": str(tmp_path / "other.pth")},
        )  # fmt: skip


@pytest.mark.slow
def test_identity_by_dlib_is_measured_beside_failures(invert, shards, tmp_path):
    out = str(tmp_path / "out")
    invert(shards, out, metrics=("identity",), how={"batch_size": 2})
    rows = LatentDataset(out).table().to_pylist()
    assert [row["identity"] is None for row in rows[:5]] == [False, True, False, False, True]
    # Each row that came out has a list; without a face in the reconstruction, of no number.
    assert {tuple(row["identity"]) for row in rows if row["status"] == "ok"} == {(None, None)}


@pytest.mark.slow
def test_a_second_run_opens_no_finished_shard(invert, shards, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    path = copies / "000.tar"
    path.write_bytes((shards / path.name).read_bytes())
    invert(copies)
    before, state = content(tmp_path / "out"), path.stat()
    path.write_bytes(b"not a tar any more".ljust(state.st_size, b"x"))
    os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    os.chmod(path, 0)
    assert invert(copies).n_shards == 0
    assert content(tmp_path / "out") == before


@pytest.mark.slow
def test_batch_size_does_not_change_the_latents(invert, whole, shards, tmp_path):
    invert(shards, how={"batch_size": 1})
    one, many = (LatentDataset(out).latents() for out in (str(tmp_path / "out"), whole[1]))
    np.testing.assert_allclose(one, many, atol=1e-4)


@pytest.mark.slow
def test_refinement_is_a_step_more_and_another_run(invert, whole, shards, tmp_path):
    out = str(tmp_path / "out")
    invert(shards, out, refine=3, latents="all")
    refined, plain = LatentDataset(out), LatentDataset(whole[1])
    for row, before in zip(refined, plain, strict=True):
        assert row["status"] == before["status"]
        if row["status"] == "ok":
            assert row["latents_by_step"].shape == (3, 10, 16)
            np.testing.assert_allclose(
                row["latents_by_step"][:2], before["latents_by_step"], atol=1e-4
            )
            assert row["mse"][2] < min(row["mse"][:2])
            assert (row["n_steps"], row["best_step"]) == (3, 3)
    assert [found.problems for found in audit.verify(out, audit.files(out))] == [[]] * 4
    assert report.write(out, tmp_path / "report.html").n_shown == 12
    assert "Step 3 is the refined answer" in (tmp_path / "report.html").read_text()
    compared = comparison.compare([whole[1], out])
    assert [course.steps for course in compared.metrics[0].courses] == [[1, 2], [1, 2, 3]]
    comparison.write(compared, tmp_path / "compare.html")
    with pytest.raises(ConfigError, match="refine: 3 there, 4 now"):
        invert(shards, out, refine=4, latents="all")
    assert invert(shards, out, refine=3, latents="all").n_shards == 0


@pytest.mark.slow
def test_the_command_keeps_labels_and_lists_what_it_could_not_finish(
    tmp_path, write_tar, photo, tiny_inverter
):
    from click.testing import CliRunner

    from jobs.cli import cli

    members = [
        ("a.png", photo(0)),
        ("a.json", b'{"smile": 0.25, "glasses": 1, "box": [1, 2]}'),
        ("a.txt", "größer".encode()),
        ("a.cls", b"7\n"),
        ("b.png", b"no image"),
        ("b.json", b'{"smile": 1}'),
        ("c.png", photo(1)),
        ("c.json", b"broken"),
        ("c.cls", b"3"),
        ("d.png", photo(2)),
    ]
    whole = Path(write_tar(tmp_path / "s.tar", members)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    words = f"invert {tmp_path} --out {out} --model {tiny_inverter} --align none --metrics= --executor local"
    words += " --batch-size 2 --keep-fields cls,txt,glasses=float"
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 1
    assert "labels: label_cls int64, label_glasses double, label_json string," in result.stdout
    assert "1 shard, 4 samples, 4 rows (1 decode_error, 1 field_error, 2 ok)" in result.stdout
    assert re.search(
        r"^the device waited \d+% of the time for input; .* slowest", result.stdout, re.M
    )
    assert "cut.tar is not a whole tar file" in result.stderr
    assert "1 shard failed; fix the cause" in result.stderr
    assert not list((out / "_run" / "parts").iterdir())
    table = LatentDataset(str(out)).table()
    names = [name for name in table.column_names if name.startswith("label_")]
    assert table.select(names).to_pydict() == {
        "label_cls": [7, None, 3, None],
        "label_glasses": [1.0, None, None, None],
        "label_json": ['{"box": [1, 2]}', None, None, None],
        "label_smile": [0.25, 1.0, None, None],
        "label_txt": ["größer", None, None, None],
    }
    assert ".json: not JSON" in table["error"][2].as_py()
    verify = CliRunner().invoke(cli, ["verify", str(out)])
    assert verify.exit_code == 1
    assert "cut.tar has no file" in verify.stdout


@pytest.mark.slow
def test_nan_from_the_model_is_a_row(invert, shards, tmp_path, tiny_inverter):
    import torch

    from encoders import load_inverter, save_inverter

    model = load_inverter(tiny_inverter)
    model.latent_avg[0, 0] = torch.nan
    save_inverter(tmp_path / "nan.safetensors", model)
    summary = invert(shards, model=str(tmp_path / "nan.safetensors"))
    assert summary.n_by_status == {"not_finite": 12, "decode_error": 4, "missing_image": 4}
    row = LatentDataset(str(tmp_path / "out"))[0]
    assert row["latent"] is None
    assert row["error"] == "the model answered with NaN or infinity"


@pytest.mark.slow
def test_object_store_in_and_out(invert, bucket, whole, shards):
    files, address = bucket
    for path in sorted(shards.glob("*.tar")):
        with files.open_output_stream(f"data/in/{path.name}") as stream:
            stream.write(path.read_bytes())
    summary = invert(address("data/in/*.tar"), out=address("data/out"))
    assert summary.n_rows == 20
    ds = LatentDataset(address("data/out"))
    np.testing.assert_allclose(ds.latents(), LatentDataset(whole[1]).latents(), atol=1e-4)
    assert ds[0]["shard"] == "s3://data/in/000.tar"
    assert invert(address("data/in/*.tar"), out=address("data/out")).n_shards == 0
    assert audit.missing(address("data/out")) == []
    found = progress.read(address("data/out"))
    assert (found.state, found.n_done, found.n_rows) == ("finished", 4, 20)
    logs = files.get_file_info(pafs.FileSelector(f"data/out/{progress.LOGS}"))
    text = b"".join(files.open_input_file(info.path).read() for info in logs).decode()
    assert text.count('"event": "done", "shard": "s3://data/in/00') == 4
