#!/bin/bash
# An --out that names a device was replaced by a file. On devices of its own, which need root.
source "$(dirname "$0")/../lib.sh"

for name in null null.webp; do mknod $name c 1 3 2> /dev/null || skip "mknod needs root"; done
limited 6 60 restyle report "$DEMO/latents" --out null
limited 6 60 restyle interpolate "$DEMO/latents" portrait_00 portrait_01 --steps 2 --out null.webp
for name in null null.webp; do [ -c $name ] || wrong "$name is still a device" "a file"; done
exit $failed
