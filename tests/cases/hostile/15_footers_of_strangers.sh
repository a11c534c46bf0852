#!/bin/bash
# Footers of strangers, or with a few damaged bytes, that ended in a traceback, took memory, or hung.
source "$(dirname "$0")/../lib.sh"

made() { python "$CASES/stranger.py" "$@"; }
made versions '' '{"versions": null}' && told 4 60 restyle report versions --out r.html
made shape '' '{"latent_avg_shape": [512]}' && told 4 60 restyle report shape --out r.html
made counts '' '{"n_by_status": -1}' && refused 4 60 restyle status counts
made model '' '{"model": null}' && refused 4 60 restyle render model --out pictures
made deep '' "RAW$(printf '[%.0s' $(seq 100000))"
refused 4 60 restyle export deep --to npy --out e.npy
refused 4 60 restyle report deep --out r.html
made list '' 'RAW[1]' && refused 4 60 restyle status list
made damaged '' 'RAW{"fingerprint": "a'
refused 4 60 restyle export damaged --to npy --out e.npy
refused 4 60 restyle edit damaged --out o --dry-run --strengths 1 --direction demo:smile
made null '' '{"identity": {"generator_sha256": null}}' && told 4 60 restyle report null --out r.html
made steps '' '{"identity": {"steps": 500000000}}' && told 4 60 restyle report steps --out r.html
mkfifo fifo.tar && made fifo "$WORK/fifo.tar" && told 4 60 restyle report fifo --out r.html
exit $failed
