"""Key names and shapes of published encoders, put together from those of the parity cases."""

import json

N_STYLES = 4  # of an 8 px generator: enough for every kind of head but the middle and fine ones


def _shapes(parity, case):
    return json.loads((parity.folder / f"{case}.json").read_text())["state_dict"]


def generator_shapes(parity, n_blocks=2):
    """`decoder.*` of a generator of 4 * 2^(n_blocks - 1) pixels."""
    limits = {"convs": 2 * (n_blocks - 1), "to_rgbs": n_blocks - 1, "noises": 2 * n_blocks - 1}

    def fits(key):
        _, kind, number = [*key.split("."), ""][:3]
        return kind not in limits or int(number.removeprefix("noise_")) < limits[kind]

    shapes = _shapes(parity, "restyle_psp_ffhq")
    return {k: v for k, v in shapes.items() if k.startswith("decoder.") and fits(k)}


def _backbone(parity, case):
    of_heads = ("encoder.styles.", "encoder.latlayer", "decoder.")
    return {k: v for k, v in _shapes(parity, case).items() if not k.startswith(of_heads)}


def _styles(parity, case, n_styles):
    shapes = _shapes(parity, case)
    lateral = {k: v for k, v in shapes.items() if k.startswith("encoder.latlayer")}
    styles = {k: v for k, v in shapes.items() if k.startswith("encoder.styles.")}
    return lateral | {k: v for k, v in styles.items() if int(k.split(".")[2]) < n_styles}


def encoder_shapes(parity, kind, in_channels, n_styles=N_STYLES):
    """`encoder.*` of a published class."""
    resnet = kind.startswith("ResNet")
    shapes = _backbone(parity, "restyle_psp_church" if resnet else "restyle_psp_ffhq")
    first = "encoder.conv1.weight" if resnet else "encoder.input_layer.0.weight"
    shapes[first] = [shapes[first][0], in_channels, *shapes[first][2:]]
    if kind in ("BackboneEncoderUsingLastLayerIntoW", "SingleStyleCodeEncoder"):
        heads = {"encoder.linear.weight": [512, 512], "encoder.linear.bias": [512]}
    elif kind == "BackboneEncoderUsingLastLayerIntoWPlus":
        norm = ("weight", "bias", "running_mean", "running_var")
        heads = {f"encoder.output_layer_2.0.{name}": [512] for name in norm}
        heads |= {
            "encoder.output_layer_2.0.num_batches_tracked": [],
            "encoder.output_layer_2.3.weight": [512, 25088],
            "encoder.output_layer_2.3.bias": [512],
            "encoder.linear.weight": [512 * n_styles, 512],
            "encoder.linear.bias": [512 * n_styles],
        }
    else:
        pyramid = "Gradual" in kind or kind == "Encoder4Editing"
        case = "restyle_psp_fpn_ffhq256" if pyramid else "restyle_psp_ffhq"
        heads = _styles(parity, case, n_styles)
    return shapes | heads
