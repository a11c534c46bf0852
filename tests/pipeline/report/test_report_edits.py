"""The report of edits, which compare refuses."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from report_runs import N_STYLES, Run, parse

from pipeline import report, storage
from pipeline.editing.rows import Edits
from pipeline.errors import ConfigError
from pipeline.records import Task
from pipeline.report import comparison


def edit_of(run: Run, folder, names=("smile", "age"), strengths=(-2.0, 0.0, 2.0)) -> None:
    """The edits of a run, by the code that `restyle edit` runs."""
    folder.mkdir()
    path = run.folder / "photos.parquet"
    footer = json.loads(pq.read_metadata(path).metadata[b"restyle"])
    edits = Edits(names, np.ones((len(names), N_STYLES, 16), np.float32), strengths)
    table = pq.read_table(path)
    batch = table.combine_chunks().to_batches()[0]
    columns = edits.columns(table.schema, False)
    edited = pa.Table.from_batches(edits.batches(edits.apply(batch)[0], None, columns))
    told = {"edit_directions": [f"{n}=1.0*x:None@all" for n in names], "latents": "last"}
    footer["identity"] |= {**told, "edit_strengths": list(strengths), "edit_source": "source-run"}
    counts = pa.compute.value_counts(edited["status"]).to_pylist()
    footer["n_by_status"] = {c["values"]: c["counts"] for c in counts}
    metadata = {b"restyle": json.dumps(footer | {"fingerprint": "edited"})}
    pq.write_table(edited.replace_schema_metadata(metadata), folder / "photos.parquet")


def test_edits_are_shown_beside_their_source(make_run, tmp_path):
    run = make_run(latents="all")
    edit_of(run, tmp_path / "edited")
    written = report.write(tmp_path / "edited", tmp_path / "edited.html")
    page = parse(written.path)
    assert len(page.all("article", "card")) == 4  # one a face, not one an edit
    assert page.alts("Aligned crop") == 4
    for name in ("smile −2", "smile 0", "age +2"):
        assert page.alts(name) == 4, name
    assert (written.n_rows, written.n_shown) == (36, 24)
    assert "24 of 36 edits made." in page.texts
    assert page.texts.count("no face was found") == 1  # of six rows that failed with their source
    assert "MSE" not in page.texts  # the rows' numbers are of the inversion
    assert "source-run" in page.texts
    with pytest.raises(ConfigError, match="edited holds edits; compare the inversions"):
        comparison.compare([str(run.folder), str(tmp_path / "edited")])


@pytest.mark.parametrize("strengths", [(-2.0, 3.0), (2.0,)])
def test_the_inversion_stands_beside_its_edits(make_run, tmp_path, strengths):
    run = make_run(latents="all")
    edit_of(run, tmp_path / "edited", names=("smile",), strengths=strengths)
    whole = parse(report.write(run.folder, tmp_path / "whole.html").path)
    page = parse(report.write(tmp_path / "edited", tmp_path / "edited.html").path)
    assert page.alts("As inverted, not edited") == (4 if len(strengths) > 1 else 0)
    before = [a["src"] for a in page.all("img") if a["alt"] == "As inverted, not edited"]
    steps = {a["src"] for a in whole.all("img") if a["alt"] == "Reconstruction after step 3"}
    assert len(before) == 0 or len(set(before) & steps) >= 3  # rounding may show in one
    if len(strengths) == 1:
        assert any("several strengths bring them along" in text for text in page.texts)
        _asked(tmp_path / "edited", run)
        page = parse(report.write(tmp_path / "edited", tmp_path / "edited.html").path)
        assert {a["src"] for a in page.all("img") if a["alt"] == "As inverted, not edited"} == steps


def _asked(folder, run) -> None:
    """What `restyle edit` notes of its sources."""
    path = run.folder / "photos.parquet"
    task = Task(str(path), storage.version(str(path)), "photos.parquet")
    footer = json.loads(pq.read_metadata(path).metadata[b"restyle"])
    edited = pq.read_table(folder / "photos.parquet")
    told = json.loads(pq.read_metadata(folder / "photos.parquet").metadata[b"restyle"])
    told["identity"]["edit_source"] = footer["fingerprint"]
    metadata = {b"restyle": json.dumps(told)}
    pq.write_table(edited.replace_schema_metadata(metadata), folder / "photos.parquet")
    (folder / "_run").mkdir()
    record = {"url": task.source, "identity": task.version, "output": task.output}
    (folder / "_run" / "shards.json").write_text(json.dumps([record]))


@pytest.mark.parametrize("strengths", [[1.0], [-2.0, 0.0, 2.0, 3.0, 4.0]])
def test_strengths_that_do_not_fit_the_rows_are_refused(make_run, tmp_path, strengths):
    edit_of(make_run(latents="all"), tmp_path / "edited", names=("smile",))
    path = tmp_path / "edited" / "photos.parquet"
    table = pq.read_table(path).slice(1)
    footer = json.loads(pq.read_metadata(path).metadata[b"restyle"])
    footer["identity"]["edit_strengths"] = [*strengths, 9.0]
    pq.write_table(table.replace_schema_metadata({b"restyle": json.dumps(footer)}), path)
    with pytest.raises(ConfigError, match="which are not .* edits of each"):
        report.write(tmp_path / "edited", tmp_path / "edited.html")
