"""Training of an encoder goes on to the bit, in stages, and on several workers as on one."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from encoders import load_inverter
from encoders.training.trainer import PRESETS, EncoderTrainer
from generators import Generator, GeneratorConfig, save_discriminator
from generators.discriminator import Discriminator, DiscriminatorConfig

SMALL = {"encoder": "unet", "widths": (8, 8, 8), "n_levels": 2, "batch_size": 4, "n_batches": 6}


@pytest.fixture
def discriminator_file(tmp_path):
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(32, (8, 8, 6, 4)))
    save_discriminator(tmp_path / "d.safetensors", network)
    return str(tmp_path / "d.safetensors")


@pytest.fixture
def shrunk(lpips_files, discriminator_file):
    """Each preset with a small U-Net, and without the networks that no test could afford."""
    lpips = {"lpips_weights": lpips_files[0], "lpips_heads": lpips_files[1]}
    published = SMALL | lpips | {"identity": 0.0, "n_steps": 2}
    return {
        "restyle-psp": replace(PRESETS["restyle-psp"], **published, ema_half_life=20.0),
        "restyle-e4e": replace(PRESETS["restyle-e4e"], **published, progressive_start=0),
        "unet-adversarial": replace(
            PRESETS["unet-adversarial"],
            **SMALL,
            vgg=0.0,
            init="random",
            discriminator=discriminator_file,
        ),
        "compact": replace(PRESETS["compact"], **SMALL, pull=0.1),
    }


def run(trainer, batches):
    return [trainer.step(images, z) for images, z in batches]


@pytest.mark.slow
@pytest.mark.parametrize("preset", list(PRESETS))
def test_three_and_three_batches_are_six(preset, shrunk, tiny_generator, shapes_batch, tmp_path):
    draw = torch.Generator().manual_seed(0)
    batches = [(shapes_batch(4, i), torch.randn(4, 16, generator=draw)) for i in range(6)]
    whole = EncoderTrainer(shrunk[preset], tiny_generator)
    terms = run(whole, batches)
    first = EncoderTrainer(shrunk[preset], tiny_generator)
    run(first, batches[:3])
    first.validate(batches[0][0])  # which leaves no trace
    torch.save(first.state_dict(), tmp_path / "state.pt")
    torch.rand(7)  # whatever else draws random numbers does not matter
    second = EncoderTrainer(shrunk[preset], tiny_generator)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert run(second, batches[3:]) == terms[3:]
    whole.save(tmp_path / "whole.safetensors", "a test")
    second.save(tmp_path / "second.safetensors", "a test")
    assert (tmp_path / "whole.safetensors").read_bytes() == (
        tmp_path / "second.safetensors"
    ).read_bytes()
    images = batches[0][0]
    assert whole.validate(images).distances == second.validate(images).distances
    assert terms[0] != terms[1]


@pytest.mark.parametrize(
    ("preset", "term", "loss"),
    [
        ("restyle-e4e", "latent_adversarial", "latent_discriminator"),
        ("unet-adversarial", "adversarial", "discriminator"),
    ],
)
def test_discriminators_are_trained_beside_the_encoder(
    preset, term, loss, shrunk, tiny_generator, shapes_batch
):
    trainer = EncoderTrainer(shrunk[preset], tiny_generator)
    [network] = trainer.discriminators.networks
    before = [p.clone() for p in network.parameters()]
    terms = trainer.step(shapes_batch(4))
    assert {term, loss, "total"} <= set(terms)
    assert any(
        not torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True)
    )
    assert not any(p.requires_grad for p in network.parameters())


def test_where_a_discriminator_looks_images_are_asked_for_in_full(shrunk, tiny_generator):
    small = {"input_side": 16, "widths": (8, 8, 8)}
    config = replace(shrunk["unet-adversarial"], **small)
    assert EncoderTrainer(config, tiny_generator).input_size == (32, 32)
    plain = replace(config, adversarial=0.0)
    assert EncoderTrainer(plain, tiny_generator).input_size == (16, 16)


@pytest.mark.slow
def test_e4e_in_stages_from_arcfaces_weights(arcface_file, tmp_path):
    torch.manual_seed(0)
    shape = GeneratorConfig(8, (4, 4), z_dim=8, w_dim=512, n_mapping_layers=1)
    generator = Generator(shape).requires_grad_(False)
    config = replace(
        PRESETS["restyle-e4e"],
        backbone_weights=arcface_file,
        identity_model=arcface_file,
        lpips=0.0,
        progressive_start=1,
        progressive_every=1,
        batch_size=2,
        n_steps=1,
    )
    trainer = EncoderTrainer(config, generator)
    published = torch.load(arcface_file)["input_layer.0.weight"]
    assert torch.equal(trainer.encoder.backbone.input_layer[0].weight[:, :3], published)
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    for n_used in (1, 2):
        moved = [style.linear.weight.clone() for style in trainer.encoder.heads.styles]
        assert {"l2", "identity", "delta_norm", "latent_adversarial"} <= set(trainer.step(images))
        now = [style.linear.weight for style in trainer.encoder.heads.styles]
        changed = [not torch.equal(a, b) for a, b in zip(moved, now, strict=True)]
        assert changed == [i < n_used for i in range(4)]
        # A published encoder's file holds no stage: what is not in use must come back as nothing.
        trainer.save(tmp_path / "model.safetensors", "a test")
        latents = load_inverter(tmp_path / "model.safetensors").invert(images, 1).latents[0]
        offsets = (latents - latents[:, :1]).abs().amax(dim=(0, 2))
        assert [bool(offset > 1e-6) for offset in offsets] == [
            False,
            *(i < n_used for i in (1, 2, 3)),
        ]


WORKER = """
import sys, torch
from dataclasses import replace
from torch import distributed
from encoders.training.trainer import EncoderTrainConfig, EncoderTrainer
from generators import load_generator

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
config = EncoderTrainConfig(l2=1.0, l1=0.5, widths=(8, 8, 8), batch_size=2, n_steps=2, seed=rank,
                            optimizer="ranger", ema_half_life=8.0)
trainer = EncoderTrainer(config, load_generator(f"{folder}/generator.safetensors"))
torch.manual_seed(0)
for images in torch.load(f"{folder}/images.pt"):
    trainer.step(images[2 * rank : 2 * rank + 2])
torch.save(trainer.finished.encoder.state_dict(), f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_workers_train_as_one_with_both_their_images(tiny_generator, shapes_batch, tmp_path):
    from encoders.training.trainer import EncoderTrainConfig
    from generators import save_generator

    save_generator(tmp_path / "generator.safetensors", tiny_generator)
    batches = [shapes_batch(4, i) for i in range(3)]
    torch.save(batches, tmp_path / "images.pt")
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    config = EncoderTrainConfig(
        l2=1.0,
        l1=0.5,
        widths=(8, 8, 8),
        batch_size=4,
        n_steps=2,
        optimizer="ranger",
        ema_half_life=8.0,
    )
    alone = EncoderTrainer(config, tiny_generator)
    start = {name: t.clone() for name, t in alone.finished.encoder.state_dict().items()}
    for images in batches:
        alone.step(images)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, tensor in alone.finished.encoder.state_dict().items():
        # (The second worker's seed is another: it was given the first one's weights.)
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(first[name], start[name]) for name in start)
