#!/bin/bash
# Small .pt and .pkl files whose nested lists were written out in an error, hashed or counted, without an end.
source "$(dirname "$0")/../lib.sh"

cat > make.py <<'P'
import torch
from nvidia_files import Persistent, dump, network

import generators


def nested(start, depth, wrap):
    for _ in range(depth):
        start = wrap(start)
    return start


def layers(module):
    yield module
    for child in module.state["_modules"].values():
        yield from layers(child)


laughs = nested(["ha"] * 10, 40, lambda x: [x] * 4)
torch.save({"state_dict": {}, "opts": {"encoder_type": laughs}}, "type.pt")
sizes = {"c_dim": 0, "img_channels": 3, "img_resolution": 64}
dump({"G_ema": Persistent("Generator", **sizes | {"c_dim": laughs})}, "c_dim.pkl")
dump({"G_ema": Persistent("Generator", **sizes | {"img_channels": laughs})}, "channels.pkl")
clamped = network(generators.load_generator("demo"))
for layer in layers(clamped):
    if layer.class_name == "SynthesisLayer":
        layer.state["conv_clamp"] = nested(("ha",), 60, lambda x: (x, x))
dump({"G_ema": clamped}, "clamp.pkl")
large = network(generators.load_generator("demo"))
large.state["img_resolution"] = 1 << 2_000_000
dump({"G_ema": large}, "resolution.pkl")
P
PYTHONPATH=$PROJ:$PROJ/tests/generators:${PYTHONPATH-} python make.py
for file in type.pt c_dim.pkl channels.pkl clamp.pkl resolution.pkl; do refused 4 40 restyle inspect $file; done
exit $failed
