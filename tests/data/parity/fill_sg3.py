"""Deterministic weights for the StyleGAN3 parity cases; extends ``fill.py`` (same idea, same ``normal``).

The rule for a StyleGAN3 generator in NVIDIA's key names, per key (``n = normal(salt + key, shape)``,
drawn from the whole key; the rule looks at the key without a leading ``decoder.``):

=================================  ======================================================
key                                value
=================================  ======================================================
ends with ``_filter``              left alone (designed low-pass filters)
``synthesis.input.transform``      left alone (identity)
``synthesis.input.freqs``          1.3 tanh(n)            (inside the band: radius < 2)
``synthesis.input.phases``         0.25 n
``synthesis.input.affine.weight``  0.3 n
``synthesis.input.affine.bias``    (1, 0, 0, 0) + 0.1 n
ends with ``magnitude_ema``        0.7 + 0.1 |n|
ends with ``affine.bias``          1 + 0.1 n
``mapping.w_avg``                  0.5 n
``mapping.fc*.weight``             100 n                  (learning-rate multiplier 0.01)
``mapping.fc*.bias``               10 n                   (likewise)
``mapping.embed.bias``, ``bias``   0.1 n
any other weight                   n
=================================  ======================================================
"""

from __future__ import annotations

import torch
from fill import from_shapes, normal


def fill_stylegan3(state_dict: dict[str, torch.Tensor], salt: str = "") -> dict[str, torch.Tensor]:
    """Return a state dict with the same keys and shapes, holding the parity weights."""
    filled = {}
    for full_key, old in state_dict.items():
        key = full_key.removeprefix("decoder.")
        if key.endswith("_filter") or key == "synthesis.input.transform":
            filled[full_key] = old
            continue
        n = normal(salt + full_key, tuple(old.shape))
        if key == "synthesis.input.freqs":
            value = 1.3 * torch.tanh(n)
        elif key == "synthesis.input.phases":
            value = 0.25 * n
        elif key == "synthesis.input.affine.weight":
            value = 0.3 * n
        elif key == "synthesis.input.affine.bias":
            value = torch.tensor([1.0, 0.0, 0.0, 0.0]) + 0.1 * n
        elif key.endswith("magnitude_ema"):
            value = 0.7 + 0.1 * n.abs()
        elif key.endswith("affine.bias"):
            value = 1 + 0.1 * n
        elif key == "mapping.w_avg":
            value = 0.5 * n
        elif key.startswith("mapping.fc"):
            value = (100 if key.endswith("weight") else 10) * n
        elif key.endswith("bias"):
            value = 0.1 * n
        else:
            value = n
        filled[full_key] = value
    return filled


def from_shapes_sg3(
    shapes: dict[str, list[int]], filters: dict, salt: str = ""
) -> dict[str, torch.Tensor]:
    """State dict for a ReStyle case: ``encoder.*`` by ``fill.fill``, ``decoder.*`` by the rule above.

    The encoder's first convolution is 30 times the rule's: without that its output depends so little on
    the pictures that a wrong resize or a wrong picture fed back would stay within the tolerance.

    ``filters`` gives the values of the ``*_filter`` buffers (the case's ``.npz`` has them under their key).
    """
    encoder = {k: s for k, s in shapes.items() if not k.startswith("decoder.")}
    decoder = {}
    for key, shape in shapes.items():
        if key.startswith("decoder."):
            if key.endswith("_filter"):
                decoder[key] = torch.as_tensor(filters[key])
            elif key.endswith("input.transform"):
                decoder[key] = torch.eye(3).expand(shape).clone()
            else:
                decoder[key] = torch.zeros(shape)
    encoder = from_shapes(encoder, salt)
    for key in ("encoder.input_layer.0.weight", "encoder.conv1.weight"):
        if key in encoder:
            encoder[key] = 30 * encoder[key]
    return encoder | fill_stylegan3(decoder, salt)
