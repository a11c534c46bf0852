#!/bin/bash
# A .pt of 1.2 kB with two pickles, data.pkl and DATA.PKL, of which torch loads the other one: it took 8 GB.
source "$(dirname "$0")/../lib.sh"

python - <<'P'
import io
import pickle
import zipfile

import torch


class Bomb:
    def __reduce__(self):
        return bytearray, (8 * 10**9,)


harmless = io.BytesIO()
torch.save({"x": torch.zeros(1)}, harmless)
with zipfile.ZipFile(harmless) as source, zipfile.ZipFile("twin.pt", "w") as twin:
    names = source.namelist()
    for name in names:
        twin.writestr(name, source.read(name))
    bomb = pickle.dumps({"state_dict": Bomb()}, 2)
    twin.writestr(names[0].split("/")[0] + "/DATA.PKL", bomb)
P
refused 2 60 restyle inspect twin.pt
refused 2 60 restyle convert twin.pt o.safetensors
refused 2 60 restyle edit "$DEMO/latents" --out o --dry-run --strengths 1 --direction twin.pt
exit $failed
