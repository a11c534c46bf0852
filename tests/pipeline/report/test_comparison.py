"""Runs over the same images compared: real Parquet in, numbers, a page and refusals out."""

import json

import browser
import numpy as np
import pytest
from browser import Browser
from click.testing import CliRunner
from latent_folders import failed
from report_runs import HOSTILE, Run, parse, row, timed
from scipy.stats import binomtest

from jobs.compare import compare as command
from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.records import Status
from pipeline.report import comparison, source
from pipeline.report.comparison.bootstrap import estimate, resampled_means
from pipeline.report.comparison.choice import choose
from pipeline.report.comparison.metrics import _difference
from pipeline.report.comparison.sign_test import sign_test
from pipeline.report.metrics import metric


def add_rows(run: Run, n: int, better=0.0, seed=0) -> None:
    """A second shard of many rows, each ``better`` but for a noise of its own."""
    noise = np.random.default_rng(seed).normal(scale=0.005, size=n)
    rows = [row(i, f"more{i}", run.config, better + noise[i]) for i in range(n)]
    run.add("more.parquet", rows, str(run.folder.parent / "more.tar"))


@pytest.fixture
def two(make_run):
    """Two runs of 44 faces; the second has an MSE lower by 0.01."""
    first = make_run("first")
    second = make_run("second", better=0.01, latent_dtype="float16")
    for run, better in ((first, 0.0), (second, 0.01)):
        add_rows(run, 40, better, seed=int(better * 100))
    return [str(first.folder), str(second.folder)]


def test_a_difference_is_found_with_its_interval(two):
    found = comparison.compare(two)
    mse = {m.metric.name: m for m in found.metrics}["mse"]
    assert (mse.n, found.common.n_images, found.common.n_left_out) == (44, 44, 2)
    assert mse.means[0].mean == pytest.approx(np.nanmean(mse.values[0]))
    by = mse.differences[1].by
    assert by.low < -0.01 < by.high < 0
    # Paired: far narrower than the spread of the images, which both runs share.
    assert by.high - by.low < 0.3 * (mse.means[0].high - mse.means[0].low)
    assert mse.verdict(1) == "better"
    assert mse.medians[0] == pytest.approx(np.nanmedian(mse.values[0]))
    assert mse.differences[1].median == pytest.approx(-0.01, abs=0.003)
    assert mse.differences[1].p < 0.001
    assert mse.best == 1
    assert mse.courses[0].steps == [1, 2, 3]
    psnr = {m.metric.name: m for m in found.metrics}["psnr"]
    assert psnr.verdict(1) == "not clear"
    assert psnr.best is None
    assert found.headline.startswith("second is best by MSE. By PSNR and Identity, no run")


@pytest.mark.parametrize(("n_more", "n_less"), [(5, 0), (3, 9), (600, 700), (0, 0), (6, 6)])
def test_the_sign_test_is_the_binomial_test(n_more, n_less):
    n = n_more + n_less
    assert sign_test(n_more, n_less) == pytest.approx(binomtest(n_more, n).pvalue if n else 1)


def test_each_image_has_one_vote_in_the_sign_test():
    measured = np.array([[0.0] * 12, [1.0] * 12])
    images = np.repeat(np.arange(3), 4)
    resampled = resampled_means(measured.T, images, 100, 0)
    found = _difference(metric("psnr"), measured, resampled, 1, images)
    assert (found.n, found.n_images) == (12, 3)
    assert found.p == pytest.approx(0.25)


def test_four_images_prove_nothing(make_run):
    folders = [
        str(make_run("first").folder),
        str(make_run("second", better=0.01, latent_dtype="float16").folder),
    ]
    mse = comparison.compare(folders).metrics[0]
    assert mse.differences[1].by.excludes_zero  # of every resample, for all four are better
    assert (mse.verdict(1), mse.best) == ("not clear", None)


def test_the_same_seed_gives_the_same_interval(two):
    first, again = (comparison.compare(two).metrics[0].differences[1] for _ in range(2))
    other = comparison.compare(two, seed=1).metrics[0].differences[1]
    assert first == again
    assert first.by != other.by


def test_intervals_hold_the_truth_as_often_as_they_say():
    source_ = np.random.default_rng(0)
    n_trials, held = 300, 0
    for trial in range(n_trials):
        values = source_.exponential(size=(80, 1))
        found = estimate(values.mean(), resampled_means(values, np.arange(80), 300, trial)[:, 0])
        held += found.low <= 1 <= found.high
    assert 0.88 < held / n_trials < 0.98


def test_faces_of_one_image_are_drawn_together():
    """Forty photos with five equal faces each tell no more than forty."""
    photos = np.random.default_rng(0).normal(size=(40, 1))
    faces, images = np.repeat(photos, 5, axis=0), np.repeat(np.arange(40), 5)
    together = np.std(resampled_means(faces, images, 800, 0))
    alone = np.std(resampled_means(photos, np.arange(40), 800, 0))
    assert together == pytest.approx(alone)
    assert np.std(resampled_means(faces, np.arange(200), 800, 0)) < 0.6 * together


def test_a_row_that_failed_in_one_run_is_left_out_of_all(make_run):
    first, second = make_run("first"), make_run("second", latent_dtype="float16")
    rows = [row(i, f"r{i}", first.config) for i in range(3)]
    first.add("more.parquet", rows, "more.tar")
    rows[1] = failed(1, "r1", Status.NOT_FINITE, "the model answered with NaN or infinity")
    second.add("more.parquet", rows, "more.tar")
    found = comparison.compare([str(first.folder), str(second.folder)])
    assert found.common.n_left_out == 3
    keys = [
        [r["key"] for r in source.rows(c.run, numbers.tolist())]
        for c, numbers in zip(found.runs, found.common.numbers, strict=True)
    ]
    assert keys[0] == keys[1]
    assert "r1" not in keys[0]
    assert len(keys[0]) == 6


def test_runs_that_cannot_be_compared_are_refused(make_run, tmp_path):
    def refused(match, *folders):
        with pytest.raises(ConfigError, match=match):
            comparison.compare([str(tmp_path / folder) for folder in folders])

    make_run("a")
    refused("at least two runs", "a")
    refused("given twice", "a", "a/")
    make_run("unaligned", align="none")
    refused("a was run with --align face and unaligned with --align none", "a", "unaligned")
    longer = make_run("longer")
    add_rows(longer, 3)
    refused("longer has rows of .*more.tar and a has not", "a", "longer")
    make_run("other_metrics", metrics=("ms_ssim",))
    refused("no metric in common", "a", "other_metrics")
    moved, version = make_run("moved"), storage.version(str(tmp_path / "photos.tar"))
    _rewrite(moved, lambda footer: footer | {"input_identity": "size=2"})
    refused("was a different file when moved read it", "a", "moved")
    _rewrite(
        moved,
        lambda footer: footer | {"input_identity": version, "metric_protocol": "8x8"},
    )
    refused("a was measured on float32 images and moved on 8x8", "a", "moved")
    _rewrite(moved, lambda footer: footer | {"metric_protocol": "clamped to [-1, 1] at 8x8"})
    refused("a was measured by an earlier release, which did not clamp", "a", "moved")
    renamed = make_run("renamed")
    (renamed.folder / "photos.parquet").unlink()
    rows = [row(i, f"other{i}", renamed.config) for i in range(6)]
    renamed.add("photos.parquet", rows, str(tmp_path / "photos.tar"))
    refused("held different samples for renamed than for a", "a", "renamed")


def _rewrite(run: Run, change) -> None:
    """The footer of its file, changed."""
    import pyarrow.parquet as pq

    path = run.folder / "photos.parquet"
    table = pq.read_table(path)
    footer = change(json.loads(pq.read_metadata(path).metadata[b"restyle"]))
    pq.write_table(table.replace_schema_metadata({b"restyle": json.dumps(footer)}), path)


def test_a_metric_of_other_networks_is_left_out_and_said(make_run):
    first, second = make_run("a"), make_run("b", metrics=("mse", "psnr"))
    found = comparison.compare([str(first.folder), str(second.folder)])
    assert [m.metric.name for m in found.metrics] == ["mse", "psnr"]
    assert found.notes == [
        "Identity is left out: not measured in every run, or measured with different networks."
    ]


def test_command_prints_a_table_and_writes_a_page(two, tmp_path):
    for folder, busy in zip(two, (8.8, 4.4), strict=True):
        mark = source.open_run(folder).footer["fingerprint"]
        rows = {"n_samples": 44, "n_by_status": {"ok": 44}}
        timed(folder, mark, "a", seconds=22.0, busy_s={"invert": busy}, **rows)
    out = tmp_path / "compare.html"
    result = CliRunner().invoke(command, [*two, "--out", str(out), "--limit", "12"])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["second", "tiny.safetensors", "latent", "dtype", "float16", "2", "0.1", "2"] in lines
    [mse] = [line for line in lines if line[:1] == ["second"] and line[-1] == "better"]
    assert mse[5].startswith("−0.0")
    assert mse[-5].startswith("−0.0")  # the median difference
    assert mse[-3:] == ["<", "0.001", "better"]
    page = parse(out)
    assert len(page.all("article", "card")) == 12
    assert page.alts("Reconstruction of first") == page.alts("Reconstruction of second") == 12
    assert page.texts.count("better in") == 1
    assert len(page.all("g", "course")) == 2 * 3  # quality against time, two runs, three metrics
    text = out.read_text("utf-8")
    assert str(tmp_path) not in text
    assert HOSTILE not in text


def test_the_images_shown_are_where_runs_differ_and_the_worst_and_best(make_run):
    first, second = make_run("first"), make_run("second", latent_dtype="float16")
    add_rows(first, 200)
    add_rows(second, 200, seed=5)
    found = comparison.compare([str(first.folder), str(second.folder)])
    chosen = choose(found.metrics, 204, 24)
    assert len(chosen) == len(set(chosen)) == 24
    mse = found.metrics[0].values
    assert np.abs(mse[1] - mse[0]).argmax() == chosen[0]
    assert {mse.mean(axis=0).argmax(), mse.mean(axis=0).argmin()} <= set(chosen)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(browser.EXECUTABLE is None, reason="no chromium on this machine")
def test_in_a_browser(two, tmp_path):
    found = comparison.compare(two)
    comparison.write(found, tmp_path / "compare.html", limit=20)
    values = "[...document.querySelectorAll('.card')].map((c) => JSON.parse(c.dataset.values).mse)"
    with Browser(tmp_path / "profile") as shown:
        shown.open(tmp_path / "compare.html")
        by_difference = np.array(shown.ask(values))
        assert np.all(np.diff(np.abs(by_difference[:, 1] - by_difference[:, 0])) <= 0)
        shown.choose("#order", "second loses most")
        gained = np.array(shown.ask(values)) @ [-1, 1]
        assert np.all(np.diff(gained) <= 0)
        shown.choose("#order", "worst first")
        assert np.all(np.diff(np.array(shown.ask(values)).mean(axis=1)) <= 0)
        assert shown.ask("document.querySelector('#sorted').textContent") == (
            "Sorted by MSE, worst first"
        )
        shown.write("#filter", "more1")
        assert shown.ask(
            "[...document.querySelectorAll('.card')].every((c) => c.hidden !== c.id.includes('more1'))"
        )
        shown.write("#filter", "")
        shown.click("[value=difference]")
        assert (
            shown.ask("getComputedStyle(document.querySelector('.over')).visibility") == "visible"
        )
        shown.resize(360, 780, phone=True)
        assert shown.ask("document.documentElement.scrollWidth") == 360
        assert shown.console == []
        outside = [url for url in shown.requests if not url.startswith("data:")]
        assert outside == [(tmp_path / "compare.html").as_uri()]
