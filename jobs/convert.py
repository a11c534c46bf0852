"""``restyle convert``: a checkpoint file into another kind of file."""

from __future__ import annotations

import click

from jobs import paths
from jobs.printing import say


@click.command(epilog="Example: restyle convert ffhq.pkl ffhq.safetensors")
@click.argument("file", type=paths.FILE)
@click.argument("out", type=paths.FILE)
def convert(file: str, out: str) -> None:
    """Write the checkpoint FILE as OUT: .safetensors (ours) or, for generators, .pt.

    FILE is a generator (rosinality or stylegan3-editing .pt, NVIDIA .pkl, ours), an encoder with its
    generator (published .pt, ours), or demo. A .pt is rosinality's of a StyleGAN2, stylegan3-editing's
    of a StyleGAN3. FILE is read as data; nothing in it is executed. OUT computes the same, to the bit.
    """
    from encoders import inverter_file, load_inverter, save_inverter
    from generators import conversion

    file = str(inverter_file.demo_path()) if file == "demo" else file
    if conversion.kind_of(file) == "generator":
        conversion.convert_generator(file, out)
    else:
        target = conversion.require_output(out, (".safetensors",), "an encoder")
        notes, source = conversion.provenance(file)
        save_inverter(target, load_inverter(file), notes=notes, source=source)
    say(f"{out} written")
