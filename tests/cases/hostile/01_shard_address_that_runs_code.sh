#!/bin/bash
# A folder of latents names a shard whose address runs code in releases of fsspec before 2026.6.
source "$(dirname "$0")/../lib.sh"

installed fsspec-2025.9.0 fsspec==2025.9.0
cat > address.py <<'P'
import base64
import json
import sys

code = "{{ cycler.__init__.__globals__.os.popen('id > " + sys.argv[1] + "').read() }}"
record = {"version": 1, "templates": {"a": code}, "refs": {"x.tar": ["file:///etc/hostname"]}}
data = base64.b64encode(json.dumps(record).encode()).decode()
print("reference://x.tar::data:application/x.json;base64," + data)
P
python "$CASES/stranger.py" st "$(python address.py "$WORK/ran")"
export PYTHONPATH=$DOWNLOADS/fsspec-2025.9.0:${PYTHONPATH-}
told 6 90 restyle report st --out r.html
told 6 90 restyle render st --out pictures --paste-back --limit 1
[ ! -e ran ] || wrong "the address runs nothing" "$(cat ran)"
exit $failed
