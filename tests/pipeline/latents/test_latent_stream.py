"""Every row once, whoever shares the work."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch.utils.data import DataLoader

from pipeline import LatentDataset

SIZES = (13, 9, 0, 22)  # row groups of four
N = sum(SIZES)


@pytest.fixture
def ds(write_latents):
    names = ["key", "latent", "mse", "label_cls", "width"]
    return LatentDataset(write_latents(sizes=SIZES), columns=names)


def numbers(batches):
    return [[int(key[1:]) for key in batch["key"]] for batch in batches]


def flat(batches):
    return [i for batch in numbers(batches) for i in batch]


def test_stored_order(ds):
    batches = list(ds.stream(5))
    assert numbers(batches) == [list(range(i, min(i + 5, N))) for i in range(0, N, 5)]
    assert len(ds.stream(5)) == len(batches) == 9
    first = batches[0]
    assert first["latent"][:, 0, 0].tolist()[:4] == [0, 1, 2, 3]
    assert first["latent"].isnan().all(dim=2).all(dim=1).tolist() == [False] * 4 + [True]
    assert first["mse"].shape == (5, 2)
    assert first["label_cls"].tolist() == [0, 1, 2, 3, 4]
    assert first["width"].tolist()[:4] == [640] * 4
    assert first["width"].isnan().tolist() == [False] * 4 + [True]


def test_shuffled_is_every_row_once_and_rows_stay_whole(ds):
    batches = list(ds.stream(5, shuffle=True, seed=1))
    found = flat(batches)
    assert sorted(found) == list(range(N))
    steps = [b - a for a, b in pairwise(found)]
    assert steps.count(1) < N // 4  # neighbours are not left beside each other
    for batch in batches:
        labels = batch["label_cls"].float()
        latents = batch["latent"][:, 3, 4]
        assert torch.equal(latents.nan_to_num(-1), torch.where(labels % 5 == 4, -1, labels))


def test_the_order_depends_on_seed_and_epoch_alone(ds):
    def order(epoch=0, **options):
        stream = ds.stream(4, **{"shuffle": True, **options})
        stream.set_epoch(epoch)
        return flat(stream)

    assert order() == order()
    assert order() != order(seed=1)
    assert order() != order(epoch=1)
    assert order(shuffle=False, epoch=1) == list(range(N))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n_ranks", [2, 3, 20])
def test_ranks_share_the_batches(ds, shuffle, n_ranks):
    alone = numbers(ds.stream(4, shuffle=shuffle))
    shares = [ds.stream(4, shuffle=shuffle, rank=r, n_ranks=n_ranks) for r in range(n_ranks)]
    found = [batch for share in shares for batch in numbers(share)]
    assert found == alone
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_the_last_rows_all_ranks_have_the_same_number_of_full_batches(ds):
    shares = [list(ds.stream(6, drop_last=True, rank=r, n_ranks=3)) for r in range(3)]
    assert [[len(b["key"]) for b in share] for share in shares] == [[6, 6]] * 3
    assert Counter(i for share in shares for i in flat(share)).most_common(1)[0][1] == 1


def test_a_dataloaders_workers_share_the_batches_of_a_rank(ds):
    stream = ds.stream(4, shuffle=True, rank=1, n_ranks=2)
    alone = numbers(stream)
    found = numbers(DataLoader(stream, batch_size=None, num_workers=2))
    assert sorted(found) == sorted(alone)
    assert len(DataLoader(stream, batch_size=None)) == len(alone)


def test_persistent_workers_are_told_of_the_next_epoch(ds):
    stream = ds.stream(4, shuffle=True)
    loader = DataLoader(stream, batch_size=None, num_workers=1, persistent_workers=True)
    for epoch in range(2):
        stream.set_epoch(epoch)
        assert numbers(loader) == numbers(stream)


def test_chosen_rows(write_latents):
    chosen = LatentDataset(write_latents(sizes=SIZES), where="label_cls < 30 and status == 'ok'")
    wanted = [i for i in range(30) if i % 5 != 4]
    assert sorted(flat(chosen.stream(7, shuffle=True))) == wanted
    assert flat(chosen.stream(7)) == wanted
    assert all(not batch["latent"].isnan().any() for batch in chosen.stream(7))
    assert {batch["width"].dtype for batch in chosen.stream(7, shuffle=True)} == {torch.int32}
    failures = LatentDataset(write_latents(sizes=SIZES), where="status != 'ok'")
    assert {batch["mse"].shape[1] for batch in failures.stream(1)} == {2}
    nobody = LatentDataset(write_latents(sizes=SIZES), where="label_cls < 0")
    assert list(nobody.stream(7, shuffle=True)) == []


def test_what_cannot_be_shared_is_refused(ds):
    for options in ({"rank": 2, "n_ranks": 2}, {"rank": -1}, {"n_ranks": 0}):
        with pytest.raises(ValueError, match="out of range"):
            ds.stream(4, **options)
    with pytest.raises(ValueError, match="batch_size 0"):
        ds.stream(0)
