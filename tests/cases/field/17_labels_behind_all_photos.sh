#!/bin/bash
# tar puts all photos first, then all labels: an error says how to sort them.
source "$(dirname "$0")/../lib.sh"

cp "$A" a.jpg && cp "$B" b.jpg && echo '{"smile": 0.1}' > a.json && echo '{"smile": 0.9}' > b.json
tar -cf 000000.tar a.jpg b.jpg a.json b.json
limited 6 120 restyle invert 000000.tar --out lat $RUN --keep-fields json
cat > check.py <<'P'
import pyarrow.parquet as pq

rows = pq.read_table("lat", columns=["status", "error"]).to_pylist()
assert rows
assert all("--sort" in row["error"] for row in rows if row["status"] == "missing_image")
P
python check.py || wrong "labels beside their photos, or an error that names tar --sort=name" "$(rows lat)"
exit $failed
