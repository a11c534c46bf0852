"""Lookahead and Ranger against their formulas, and the average over time."""

import pytest
import torch
from torch import nn

from encoders.training.optimizers import EMA, Lookahead, ranger


def a_weight():
    return nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))


def descend(optimizer, weight, n_steps):
    for _ in range(n_steps):
        optimizer.zero_grad()
        (weight.square().sum() + weight.prod()).backward()
        optimizer.step()


def test_lookahead_is_algorithm_1_of_its_paper():
    weight, k, alpha, rate = a_weight(), 3, 0.4, 0.05
    optimizer = Lookahead(torch.optim.SGD([weight], lr=rate), k, alpha)
    descend(optimizer, weight, 7)
    slow = fast = a_weight().detach()
    for _ in range(2):
        for _ in range(k):
            fast = fast - rate * (2 * fast + fast.prod() / fast)
        slow = slow + alpha * (fast - slow)
        fast = slow
    fast = fast - rate * (2 * fast + fast.prod() / fast)
    torch.testing.assert_close(weight.detach(), fast)
    torch.testing.assert_close(optimizer.slow[0], slow)


def test_ranger_is_radam_that_goes_half_the_way_back_after_six_steps():
    ours, theirs = a_weight(), a_weight()
    radam = torch.optim.RAdam([theirs], lr=1e-2, betas=(0.95, 0.999), eps=1e-5)
    optimizer = ranger([ours], 1e-2)
    descend(optimizer, ours, 5)
    descend(radam, theirs, 5)
    assert torch.equal(ours, theirs)
    descend(optimizer, ours, 1)
    descend(radam, theirs, 1)
    torch.testing.assert_close(ours, (theirs + a_weight()) / 2)


def test_ranger_goes_on_to_the_bit(tmp_path):
    whole, before = a_weight(), a_weight()
    descend(ranger([whole], 1e-2), whole, 17)
    first = ranger([before], 1e-2)
    descend(first, before, 9)  # in the middle between two returns
    torch.save(first.state_dict(), tmp_path / "state.pt")
    after = nn.Parameter(before.detach().clone())
    second = ranger([after], 3.0)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    descend(second, after, 8)
    assert torch.equal(after, whole)


def test_a_parameter_without_gradient_stays():
    used, unused = a_weight(), a_weight()
    optimizer = ranger([used, unused], 1e-2)
    descend(optimizer, used, 7)
    assert torch.equal(unused, a_weight())


def test_an_average_keeps_less_at_first_and_copies_statistics():
    network, mean = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    average = EMA(mean.requires_grad_(False))
    expected = None
    for n, value in enumerate([4.0, 1.0, -2.0, 5.0], start=1):
        nn.init.constant_(network.weight, value)
        network.running_mean.fill_(value)
        average.update(network, decay=0.6)
        keep = min(0.6, 1 - 1 / n)
        expected = value if expected is None else keep * expected + (1 - keep) * value
        assert mean.weight.tolist() == pytest.approx([expected] * 2)
        assert torch.equal(mean.running_mean, network.running_mean)
    assert not mean.weight.requires_grad
