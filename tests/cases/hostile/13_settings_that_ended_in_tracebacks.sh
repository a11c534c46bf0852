#!/bin/bash
# Settings and names of files that ended in a traceback and status 1.
source "$(dirname "$0")/../lib.sh"

L=$DEMO/latents S=$DEMO/shards/000000.tar long=$(printf 'x%.0s' $(seq 300))
cp "$S" $'sh\xff.tar' && mkdir lat2 && cp "$L"/*.parquet lat2/ && touch lat2/$'notes\xff.txt'
told 6 60 restyle invert $'sh\xff.tar' --out o --dry-run
told 6 60 restyle invert '*.tar' --out o --dry-run
told 6 60 restyle status lat2
refused 6 60 restyle invert $long.tar --out o --dry-run
refused 6 60 restyle invert "$S" --out o --dry-run --gpus-per-actor 1e400
refused 6 60 restyle report "$L" --out $long.html
refused 6 60 restyle export "$L" --to npy --out $long.npy
refused 6 60 restyle export "$L" --to pairs --out 'x%c.tar' --samples 1
refused 6 60 restyle pack "$DEMO/photos" 'p%c.tar' --samples 1
refused 6 60 restyle pack "$DEMO/photos" 's3://bucket/%d.tar'
refused 6 60 restyle interpolate "$L" portrait_00 portrait_01 --steps 999999999999 --out i.webp
refused 6 60 restyle interpolate "$L" portrait_00 portrait_01 --steps 2 --fps nan --out i.webp
refused 6 60 restyle edit "$L" --out o --dry-run --strengths 1 --direction sefa:$(printf '9%.0s' $(seq 5000))
refused 6 60 restyle convert demo /proc/x.safetensors
refused 6 60 restyle demo --out /dev/null
exit $failed
