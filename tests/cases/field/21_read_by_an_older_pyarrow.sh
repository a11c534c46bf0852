#!/bin/bash
# A row without a face beside one with, read by another pyarrow that pyproject.toml allows (PYARROW=25.0.0).
source "$(dirname "$0")/../lib.sh"

python -c "from PIL import Image; Image.new('RGB', (64, 64), 'grey').save('b.jpg')"
cp "$A" a.jpg && tar -cf 000000.tar a.jpg b.jpg
version=${PYARROW:-25.0.0}
installed "pyarrow-$version" "pyarrow==$version"
succeeds restyle invert 000000.tar --out lat --actors 1 --steps 1 --metrics mse
expect_rows lat "a ok
b no_face"
export PYTHONPATH=$DOWNLOADS/pyarrow-$version:${PYTHONPATH-}
cat > read.py <<'P'
import sys

import pyarrow
import pyarrow.parquet as pq

from pipeline import LatentDataset

assert pyarrow.__version__ == sys.argv[1]
table = pq.read_table("lat", columns=["key", "latent"], filters=[("status", "==", "ok")])
assert table.num_rows == 1
assert len(LatentDataset("lat").latents()) == 1
P
succeeds python read.py "$version"
succeeds restyle verify lat
succeeds restyle report lat --out r.html
succeeds restyle export lat --to npy --out l.npy
exit $failed
