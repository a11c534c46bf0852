"""The report: real Parquet in, one HTML file out, parsed and shown in a browser."""

import json
import re
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from latent_folders import failed
from report_runs import (
    HOSTILE,
    N_STEPS,
    Parsed,
    Run,
    parse,
    row,
    timed,
    write_shard,
)

from encoders import load_inverter, save_inverter
from generators import CheckpointError
from jobs.report import report as command
from pipeline import report
from pipeline.config import RunConfig
from pipeline.engine.progress import throughput
from pipeline.errors import ConfigError
from pipeline.records import Status
from pipeline.report import source
from pipeline.report.choice import choose
from pipeline.report.metrics import metric
from pipeline.report.page import anchors


def page_of(run: Run, **options) -> tuple[Parsed, report.Written]:
    written = report.write(run.folder, run.folder.parent / "report.html", **options)
    return parse(written.path), written


def test_shows_every_row_with_its_pictures_and_numbers(make_run):
    page, written = page_of(make_run(latents="all"))
    for key in ("a/first", "second", HOSTILE, "fourth", "nobody", "broken"):
        assert page.texts.count(key) == 1
    assert len(page.all("article", "card")) == 4
    assert page.alts("Source photo") == 5  # the photo without a face too
    assert page.alts("Aligned crop") == 4
    assert page.alts("Reconstruction after step") == 4 * N_STEPS
    assert page.alts("The average image") == 1
    for text in ("0.5000", "0.1350", "11.00", "0.430", "no face was found", "<b>cut & short</b>"):
        assert text in page.texts
    assert "Median MSE falls from 0.5150 to 0.1400 over 3 steps." in page.texts
    assert not written.notes
    assert (written.n_rows, written.n_shown, written.n_failures_shown) == (6, 4, 2)


def test_is_one_file_that_asks_for_nothing(make_run):
    page, written = page_of(make_run(latents="all"))
    text = written.path.read_text("utf-8")
    assert not re.search(r"https?:|@import|url\(", text)
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:"))
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert len(page.all("script")) == 1  # ours, and none that a key brought in
    assert str(written.path.parent) not in text  # the page travels; where it was made does not


def test_a_link_opens_a_row_whatever_its_key_is(make_run):
    page, _ = page_of(make_run(latents="all"))
    ids = {attrs.get("id") for _, attrs in page.tags}
    for key in ("a/first", HOSTILE, "nobody"):
        assert f"key={key}" in ids
        assert f"#{quote(f'key={key}', safe='/')}" in [a.get("href") for a in page.all("a")]
    faces = [{"key": "two", "n_faces": 2, "face": face} for face in (0, 1, 0)]
    assert anchors(faces) == ["key=two", "key=two;face=2", "key=two;n=2"]


def test_what_was_measured_once_has_no_empty_box(make_run):
    page, _ = page_of(make_run(latents="all"))
    assert page.texts.count("Measured after step 3 only.") == 1
    assert page.texts[page.texts.index("lowest") :].index("0.400") < 4


def test_best_step_is_marked(make_run):
    _, written = page_of(make_run(latents="all"))
    best = re.findall(r'<td class="best">([^<]*)', written.path.read_text("utf-8"))
    assert best[:2] == ["0.1550", "15.00"]  # of the worst; not the last step's 14 dB


def test_without_alignment_nothing_is_called_a_crop(make_run):
    page, _ = page_of(make_run(latents="all", align="none"))
    assert page.alts("What the encoder saw") == 4
    assert page.texts.count("input") == 8  # the stage of each card, and its table
    assert "crop" not in page.texts


def test_last_latents_give_the_last_picture(make_run):
    page, _ = page_of(make_run(latents="last"))
    assert page.alts("Reconstruction after step 3") == 4
    assert page.alts("Reconstruction after step") == 4
    assert page.texts.count("not kept") == 4 * (N_STEPS - 1)


def test_saved_images_need_neither_shard_nor_model(make_run, tmp_path):
    run = make_run(latents="last", save_images=True, model=str(tmp_path / "gone.safetensors"))
    (tmp_path / "photos.tar").unlink()
    page, written = page_of(run)
    assert page.alts("Aligned crop") == 4
    assert page.alts("Reconstruction after step 3") == 4
    assert page.alts("Source photo") == 0
    assert len(written.notes) == 2
    assert "gone.safetensors" in written.notes[0]
    assert "pass --model" in written.notes[0]
    assert "is not on this machine; pass --photos" in written.notes[1]
    assert all(any(note in text for text in page.texts) for note in written.notes)


def test_a_moved_model_is_given_and_another_is_refused(make_run, tiny_inverter, tmp_path):
    run = make_run(latents="all", model=str(tmp_path / "gone.safetensors"))
    page, written = page_of(run, model=str(tiny_inverter))
    assert page.alts("Reconstruction after step") == 4 * N_STEPS
    assert not written.notes
    other = load_inverter(tiny_inverter)
    other.generator.mapping.requires_grad_(False)
    next(iter(other.generator.parameters())).data.add_(1)
    save_inverter(tmp_path / "other.safetensors", other)
    with pytest.raises(ConfigError, match="not the one that the latents were made with"):
        page_of(run, model=str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError):
        page_of(run, model=str(tmp_path / "gone.safetensors"))


def test_numbers_are_of_all_rows_and_pictures_of_some(make_run):
    run = make_run(latents="all")
    rows = [row(i, f"more{i}", run.config) for i in range(1500)]
    run.add("more.parquet", rows, str(run.folder / "gone.tar"))
    page, written = page_of(run, limit=6)
    assert len(page.all("article", "card")) == 6
    assert written.n_rows == 1506
    assert any(text.startswith("6 of 1,504 inverted rows") for text in page.texts)
    shown = [text for text in page.texts if text.startswith("more")]
    # Evenly spread over two row groups, which are read by the piece; the worst first.
    assert shown == [f"more{i * 1504 // 6}" for i in reversed(range(6))]
    found = source.values(source.open_run(str(run.folder)), "psnr")
    assert np.isfinite(found).all(1).sum() == 1504
    assert len(found) == 1506


def test_an_empty_run_has_a_page(tmp_path, tiny_inverter):
    run = Run(
        tmp_path / "latents", tiny_inverter, RunConfig(model=str(tiny_inverter), steps=N_STEPS)
    )
    run.add("empty.parquet", [], "empty.tar")
    page, _ = page_of(run)
    assert "0 of 0 images inverted." in page.texts
    assert page.all("section")


def test_only_failures(tmp_path, tiny_inverter):
    run = Run(
        tmp_path / "latents", tiny_inverter, RunConfig(model=str(tiny_inverter), steps=N_STEPS)
    )
    run.add("a.parquet", [failed(0, "x", Status.NO_FACE, "no face was found")], "gone.tar")
    page, _ = page_of(run)
    assert "no_face" in page.texts
    assert not page.all("article")


def test_the_demo_model_is_called_what_it_is(make_run, tiny_inverter):
    page, _ = page_of(make_run(model="demo"), model=str(tiny_inverter))
    assert "These are likenesses, not copies." in page.texts
    page, _ = page_of(make_run(), limit=0)
    assert "These are likenesses, not copies." not in page.texts


def test_a_shard_that_was_packed_anew_gives_no_wrong_photos(make_run, tmp_path):
    run = make_run(latents="all")
    write_shard(tmp_path / "photos.tar", ["other", *"bcdef"])
    page, written = page_of(run)
    assert page.alts("Source photo") == 0
    assert "has changed since it was inverted" in written.notes[0]


def test_no_command_of_a_file_is_run(make_run, tmp_path):
    run = make_run(latents="all")
    run.add("piped.parquet", [row(0, "piped", run.config)], f"pipe:touch {tmp_path / 'ran'}")
    _, written = page_of(run)
    assert not (tmp_path / "ran").exists()
    assert "is not opened, because a data set may name any address" in written.notes[0]


def test_what_cannot_be_reported_on_is_refused(make_run, tmp_path, tiny_inverter):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match="holds no Parquet file"):
        report.write(tmp_path / "nothing", tmp_path / "r.html")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "nothing" / "foreign.parquet")
    with pytest.raises(ConfigError, match="not written by `restyle invert`"):
        report.write(tmp_path / "nothing", tmp_path / "r.html")
    run = make_run("odd")
    good = pq.read_table(run.folder / "photos.parquet")
    footer = json.loads(pq.read_metadata(run.folder / "photos.parquet").metadata[b"restyle"])
    for table, record, says in (
        (good, b"{no json", "double quotes"),
        (good, json.dumps({"identity": 3}), "identity is 3, not an object"),
        (good, json.dumps({k: v for k, v in footer.items() if k != "versions"}), "versions"),
        (good.drop_columns(["psnr"]), json.dumps(footer), "psnr"),
    ):
        metadata = {b"restyle": record}
        pq.write_table(table.replace_schema_metadata(metadata), run.folder / "photos.parquet")
        with pytest.raises(ConfigError, match=f"different version .*{says}"):
            report.write(run.folder, tmp_path / "r.html")
    (tmp_path / "nothing" / "foreign.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ConfigError, match="cannot be read"):
        report.write(tmp_path / "nothing", tmp_path / "r.html")

    run = make_run()
    other = Run(
        run.folder, tiny_inverter, RunConfig(model=str(tiny_inverter), steps=N_STEPS, faces="all")
    )
    other.add("z.parquet", [], "z.tar")
    with pytest.raises(ConfigError, match="faces: largest there, all now"):
        report.write(run.folder, tmp_path / "r.html")


def test_where_the_page_cannot_go_is_refused(make_run, tmp_path):
    run = make_run()
    (tmp_path / "file").write_text("")
    for out, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "r.html", "choose another --out"),
        ("s3://bucket/r.html", "local file"),
    ):
        with pytest.raises(ConfigError, match=words):
            report.write(run.folder, out)


def test_command(make_run, tmp_path):
    run = make_run(latents="all")
    out = tmp_path / "deep" / "page.html"
    result = CliRunner().invoke(command, [str(run.folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert f"report: {out} (4 of 6 rows with pictures" in result.output
    assert [p.name for p in out.parent.iterdir()] == ["page.html"]


def test_of_many_rows_the_worst_are_shown_and_some_of_every_status():
    statuses = np.array(["ok"] * 990 + ["no_face"] * 9 + ["decode_error"])
    values = np.full((1000, 2), np.nan, np.float32)
    values[:990, 1] = np.random.default_rng(0).permutation(990)
    choice = choose(statuses, {metric("mse"): values, metric("psnr"): values}, 16)
    assert len(choice.shown) == 16
    assert choice.n_worst == 2
    for name in ("mse", "psnr"):
        order = np.argsort(values[:990, 1])[:: -1 if name == "mse" else 1]
        assert choice.ranks[order[0]] == f"worst {metric(name).label} of all"
        assert choice.ranks[order[1]] == f"2. worst {metric(name).label} of all"
        assert set(order[:2]) <= set(choice.shown)
    spread = [number for number in choice.shown if number not in choice.ranks]
    assert np.ptp(np.diff(spread)) < 5
    assert choose(statuses, {}, 2).failed == [990, 999]


def test_a_page_of_many_pictures_stays_small(make_run, monkeypatch):
    _, whole = page_of(make_run(latents="all"))
    content = report.collect(str(whole.path.parent / "latents"))
    n_bytes = sum(card.n_bytes for card in [*content.cards, *content.failures])
    monkeypatch.setattr(report.output, "MAX_PICTURE_BYTES", n_bytes // 2)
    _, written = page_of(make_run(latents="all"))
    assert 0 < written.n_shown < 4
    assert "larger than 20 MB, so it shows those of" in written.notes[0]


def test_what_ran_is_timed_and_told(make_run):
    run = make_run()
    mark = source.open_run(str(run.folder)).footer["fingerprint"]
    rows = {"n_samples": 6, "n_by_status": {"ok": 4, "no_face": 2}}
    worked = {"busy_s": {"invert": 8.0}, "workers": ["n gpu 0 pid 1"]}
    timed(run.folder, mark, "a", seconds=3.0, **rows, **worked)
    timed(run.folder, mark, "b", seconds=1.0, **rows, **worked)
    timed(run.folder, "another", "c", seconds=1000.0, **rows, **worked)
    found = throughput(str(run.folder), mark)
    assert found is not None
    assert (found.samples_per_s, found.model_s_per_image, found.on_gpu) == (3.0, 2.0, True)
    page, _ = page_of(run)
    assert page.texts[page.texts.index("images per second on 1 GPU") + 1 :][:2].count("3") == 1


def test_labels_are_shown(make_run):
    run = make_run(keep_fields=("json",), labels={"label_smile": "double", "label_who": "string"})
    page, _ = page_of(run)
    assert page.texts.count("smile") == 4
    assert page.texts.count("0.25") == 4
    assert page.texts.count("<i>nobody</i>") == 4
    assert "<i>nobody</i>" not in (run.folder.parent / "report.html").read_text("utf-8")


def test_the_page_says_how_many_rows_got_worse(make_run):
    page, _ = page_of(make_run())
    assert "got worse after their best step" in page.texts
