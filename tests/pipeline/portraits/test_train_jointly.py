"""The demo's polish: what it disturbs, what it weighs, and that a step of it learns."""

import torch

from pipeline.portraits import render, sample
from pipeline.portraits.train_jointly import FEATURES, Polish, disturb, feature_weight


def test_disturbed_images_differ_and_stay_in_range():
    target = render(sample(4, 1), 64, "aligned")
    seen = disturb(target, torch.Generator().manual_seed(0))
    assert seen.shape == target.shape
    assert seen.abs().max() <= 1
    assert (seen - target).abs().mean(dim=(1, 2, 3)).min() > 0.03


def test_eyes_and_mouth_count_most():
    weight = feature_weight(64)
    eye, mouth, corner = weight[30, 24], weight[47, 32], weight[0, 0]
    assert eye > 1 + 0.8 * FEATURES
    assert mouth > 1 + 0.8 * FEATURES
    assert corner < 1.01


def test_a_step_moves_both_networks_until_the_generator_is_frozen():
    polish = Polish("demo", seed=0)
    z = sample(4, 2)
    target = render(z, 64, "aligned")

    def moved(step_count):
        before = [p.clone() for p in polish.model.parameters()]
        for _ in range(step_count):
            polish.step(z, target, 0.0)
        named = zip(polish.model.named_parameters(), before, strict=True)
        changed = [name for (name, now), then in named if not torch.equal(now, then)]
        return {name.split(".")[0] for name in changed}

    assert moved(1) == {"encoder", "generator"}
    polish.freeze()
    assert moved(1) == {"encoder"}
