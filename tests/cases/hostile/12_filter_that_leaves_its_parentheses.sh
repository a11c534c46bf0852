#!/bin/bash
# export --where with parentheses of its own wrote rows that had failed as latents of NaN.
source "$(dirname "$0")/../lib.sh"

mkdir photos && cp "$A" photos/a.jpg && echo junk > photos/broken.jpg
succeeds restyle pack photos 'shards/%06d.tar'
limited 6 120 restyle invert shards/000000.tar --out lat $RUN
refused 6 60 restyle export lat --to npy --out x.npy --where "mse < 9) or (status != 'ok'"
exit $failed
