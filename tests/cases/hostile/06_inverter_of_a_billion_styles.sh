#!/bin/bash
# A .safetensors of 5 kB that claims a billion styles, whose heads were built one by one.
source "$(dirname "$0")/../lib.sh"

python - <<'P'
import json
import os

from safetensors import safe_open
from safetensors.torch import save_file

with safe_open(os.environ["PROJ"] + "/encoders/weights/demo.safetensors", "pt") as demo:
    reference = json.loads(demo.metadata()["restyle"])["config"]["generator_reference"]
    tensors = {"latent_avg": demo.get_tensor("latent_avg")}
config = {
    "encoder": {"type": "GradualStyleEncoder", "n_styles": 10**9},
    "input_size": [64, 64],
    "generator_reference": reference,
}
record = json.dumps({"kind": "inverter", "config": config})
save_file(tensors, "styles.safetensors", metadata={"restyle": record})
P
refused 3 60 restyle invert "$DEMO/shards/000000.tar" --out o --dry-run --model styles.safetensors
exit $failed
