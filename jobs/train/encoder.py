"""``restyle train encoder``: a ReStyle encoder for a generator, on shards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from encoders.training.trainer import PRESETS, EncoderTrainConfig, EncoderTrainer
from generators import load_generator
from generators.files import download
from generators.files.addresses import is_address
from generators.files.checkpoint import tensors_sha256
from jobs import flags, paths
from jobs.train.start import command, data_of, start


class _Maker:
    """Builds the trainer on a worker, which loads the generator's file itself."""

    def __init__(self, config: EncoderTrainConfig, generator: str) -> None:
        self._config, self._generator = config, generator

    def __call__(self, device: str) -> EncoderTrainer:
        return EncoderTrainer(self._config, load_generator(self._generator), device)


@command(
    "encoders.training.trainer:PRESETS",
    epilog="Example: restyle train encoder 'shards/*.tar' --generator mine.pkl --out encoder/ "
    "--preset restyle-psp --lpips-weights alexnet.pth --lpips-heads alex.pth",
)
@flags.flag(
    "--generator",
    type=paths.FILE,
    default="demo",
    show_default=True,
    help="Generator file, or demo.",
)
@flags.flag(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="compact",
    show_default=True,
    help="The recipe, which the flags below change; with --help it shows its values.",
)
def encoder(shards: tuple[str, ...], out: str, generator: str, preset: str, **options: Any) -> None:
    """Train an encoder for a generator on the images of SHARDS.

    \b
    compact            a U-Net, no pretrained file; what trained the demo
    restyle-psp        the published recipe (arXiv 2104.02699)
    restyle-e4e        the published recipe over e4e
    unet-adversarial   U-Net, VGG16 distance and an adversary

    The files in --out, last.safetensors and best.safetensors (by the distances to held-out images),
    are for --model. Running the same command again resumes.
    """
    config = flags.build(EncoderTrainConfig, options, PRESETS[preset])
    if is_address(generator):  # what workers load is what this process has looked at
        generator = download.pinned(generator)
    network = load_generator(generator)
    settings = asdict(config) | {"generator_sha256": tensors_sha256(network.state_dict())}
    for name in (
        "bound",
        "strange",
    ):  # named only where set, so that folders from before them go on
        if not settings[name]:
            del settings[name]
    z_dim = network.config.z_dim if config.pull else 0
    data = data_of(shards, options)
    start(_Maker(config, generator), settings, data, out, options, z_dim)
