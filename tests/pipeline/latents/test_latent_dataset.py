"""LatentDataset: rows by number, chosen rows and columns, ready for torch."""

import math
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipeline import LatentDataset
from pipeline.errors import ConfigError

OK = [i for i in range(11) if i % 5 != 4]


def numbers(latents):
    """Which rows they are, by the value that fills their latents."""
    return latents[:, 0, 0].tolist()


def test_rows_by_number(write_latents):
    ds = LatentDataset(write_latents())
    assert len(ds) == 11
    assert [ds[i]["key"] for i in range(11)] == [f"k{i}" for i in range(11)]
    assert ds[-1]["key"] == ds[np.int64(10)]["key"] == "k10"
    assert [row["key"] for row in ds[8:1:-3]] == ["k8", "k5", "k2"]
    with pytest.raises(IndexError):
        ds[11]
    row = ds[7]
    assert torch.equal(row["latent"], torch.full((4, 5), 7.0))
    np.testing.assert_allclose(row["mse"], [1, 0.7], rtol=1e-6)
    np.testing.assert_allclose(row["identity"], [np.nan, 0.07], rtol=1e-6)
    assert torch.equal(row["reconstruction"], torch.ones(3, 2, 3))
    assert (row["label_smile"], row["label_cls"], row["label_txt"]) == (3.5, 7, "text 7")
    assert row["error"] == ""
    row["latent"].zero_()  # what is handed out is the caller's own
    assert ds[7]["latent"][0, 0] == 7
    failed = ds[4]
    assert failed["latent"] is failed["mse"] is failed["reconstruction"] is None
    assert failed["error"] == "no face was found"
    assert math.isnan(failed["width"])
    assert failed["label_cls"] == 4


def test_labels_of_yes_and_no(write_latents):
    import pyarrow as pa

    from pipeline.latents.columns import decoded

    ds = LatentDataset(write_latents(labels={"label_glasses": "bool"}))
    assert math.isnan(ds[0]["label_glasses"])
    column = decoded(pa.table({"yes": [True, False, None]}), 1)["yes"]
    assert [column.item(i) for i in range(2)] == [True, False]


def test_iteration_is_in_stored_order(write_latents):
    ds = LatentDataset(write_latents(), where="status == 'ok'")
    assert [row["key"] for row in ds] == [f"k{i}" for i in OK]
    assert [ds[i]["key"] for i in range(len(ds))] == [f"k{i}" for i in OK]


def test_chosen_rows_and_columns(write_latents):
    where = "status == 'ok' and 0.25 < mse <= 0.8 and label_txt != 'text 5'"
    ds = LatentDataset(write_latents(), where=where, columns=["key", "label_smile", "latent"])
    assert [(row["key"], row["label_smile"]) for row in ds] == [
        (f"k{i}", i / 2) for i in (3, 6, 7, 8)
    ]
    assert list(ds[0]) == ["key", "label_smile", "latent"]
    assert numbers(ds.latents()) == [3, 6, 7, 8]
    assert ds.table(["key"]).to_pydict() == {"key": ["k3", "k6", "k7", "k8"]}
    assert ds.table().column_names == ds.columns
    assert np.asarray(ds.table(["latent"])["latent"].to_pylist()).shape == (4, 4, 5)
    nobody = LatentDataset(write_latents(), where="key == 'nobody'")
    assert len(nobody) == len(nobody.table()) == len(list(nobody)) == 0
    assert nobody.latents().shape == (0, 4, 5)
    with pytest.raises(ConfigError, match="has no column 'lpips'; it has key, shard"):
        LatentDataset(write_latents(), columns=["lpips"])
    with pytest.raises(ConfigError, match="has no column 'lpips'"):
        nobody.table(["lpips"])


def test_latents_are_those_that_there_are(write_latents):
    ds = LatentDataset(write_latents())
    assert numbers(ds.latents()) == OK
    assert ds.latents().is_contiguous()
    half = LatentDataset(write_latents("half", latent_dtype="float16"))
    assert half.latents().dtype == torch.float16
    failures = LatentDataset(str(half._files.groups[0].path), where="status != 'ok'")
    assert (failures.latents().shape, failures.latents().dtype) == ((0, 4, 5), torch.float16)


def test_tables_keep_what_is_missing_as_null(write_latents):
    table = LatentDataset(write_latents()).table(["error", "width", "latent"])
    assert table["error"].to_pylist()[3:5] == [None, "no face was found"]
    assert table["width"].null_count == table["latent"].null_count == 2


def test_the_footer_and_what_it_says_of_the_model(write_latents):
    ds = LatentDataset(write_latents())
    assert ds.footer["identity"]["steps"] == 2
    assert "n_samples" not in ds.footer  # of one shard
    assert ds.latent_avg.tolist() == [1, 2]
    assert ds.schema.field("label_cls").type == "int64"


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_dataloader_takes_it_as_it_is(write_latents, n_workers):
    ds = LatentDataset(write_latents(), where="status == 'ok'")
    batches = list(DataLoader(ds, batch_size=4, num_workers=n_workers))
    assert [len(batch["key"]) for batch in batches] == [4, 4, 1]
    assert numbers(torch.cat([batch["latent"] for batch in batches])) == OK
    assert batches[0]["reconstruction"].shape == (4, 3, 2, 3)
    assert batches[0]["label_cls"].tolist() == OK[:4]
    assert batches[0]["label_txt"] == [f"text {i}" for i in OK[:4]]
    assert batches[0]["mse"].shape == (4, 2)
    # Whole numbers stay whole beside rows that have none.
    assert {batch["width"].dtype for batch in batches} == {torch.int64}


def test_few_row_groups_stay_in_memory(write_latents, monkeypatch):
    ds = LatentDataset(write_latents(sizes=(40,)), columns=["latent"])
    for i in (0, 39, 13, 27):
        ds[i]
    assert len(ds._cache) == 4
    for i in range(40):
        ds[i]
    assert len(ds._cache) == 8
    assert len(pickle.dumps(ds)) < 10_000
    monkeypatch.setattr("pipeline.latents.dataset.MAX_CACHED_BYTES", 100)
    tight = LatentDataset(write_latents("other", sizes=(40,)))
    assert [tight[i]["key"] for i in (0, 39, 1)] == ["k0", "k39", "k1"]
    assert len(tight._cache) == 1


def test_what_it_says_of_itself_is_short(write_latents):
    told = repr(LatentDataset(write_latents(), columns=["key", "mse"]))
    assert told.endswith("latents': 11 rows, 9 ok, latents 4 x 5; columns key, mse)")
    told = repr(LatentDataset(write_latents(), where="mse < 0.35"))
    assert "latents': 4 of 11 rows, latents 4 x 5; columns key, shard, sample_index, " in told
    assert told.endswith(" more)")


def test_sorted_it_is_a_view_in_another_order(write_latents):
    ds = LatentDataset(write_latents())
    worst = ds.sort("mse", descending=True)
    order = [f"k{i}" for i in [*OK[::-1], 4, 9]]  # those without a value are last
    assert [row["key"] for row in worst] == order
    assert [worst[i]["key"] for i in range(11)] == order
    assert [row["key"] for row in worst[2:4]] == order[2:4]
    assert worst.table(["key"])["key"].to_pylist() == order
    assert [key for table in worst.tables(["key"]) for key in table["key"].to_pylist()] == order
    assert numbers(worst.latents()) == OK[::-1]
    assert [row["key"] for row in ds] == [f"k{i}" for i in range(11)]
    assert ds.sort("identity")[0]["key"] == "k0"
    # Of equals, the order before stays: all have 1 at the first step.
    again = worst.sort("mse[0]")
    assert [row["key"] for row in again][:9] == order[:9]
    assert ds.sort("label_txt", descending=True)[0]["key"] == "k9"
    with pytest.raises(ConfigError, match="no order by 'latent'"):
        ds.sort("latent")
    with pytest.raises(ConfigError, match="has no column 'lpips'"):
        ds.sort("lpips")
    with pytest.raises(ConfigError, match="a stream reads rows as they are stored"):
        worst.stream(4)


def test_latents_as_an_array(write_latents):
    half = LatentDataset(write_latents(latent_dtype="float16"))
    found = half.sort("mse", descending=True).to_numpy()
    assert (found.dtype, found.shape) == (np.float32, (9, 4, 5))
    assert numbers(found) == OK[::-1]


def test_labels_of_a_file_are_columns_like_any_other(write_latents, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text("photo,age,name\nk7.jpg,30,Ann\nk2,20,\nk1,,Bob\nelsewhere,9,Eve\n")
    ds = LatentDataset(write_latents(), labels=people, on="photo", where="label_age >= 20")
    assert [(row["key"], row["label_age"], row["label_name"]) for row in ds] == [
        ("k2", 20, ""), ("k7", 30, "Ann")
    ]  # fmt: skip
    assert ds.sort("label_age", descending=True).table(["label_age"]).to_pydict() == {
        "label_age": [30, 20]
    }
    ages = pickle.loads(pickle.dumps(ds)).table(["label_age", "mse"])
    assert ages["label_age"].to_pylist() == [20, 30]
    [batch] = ds.stream(4)
    assert batch["label_age"].tolist() == [20, 30]
    people.write_text("key,smile\nk1,0\n")
    with pytest.raises(ConfigError, match="has a column label_smile already; rename 'smile'"):
        LatentDataset(write_latents(), labels=people)
