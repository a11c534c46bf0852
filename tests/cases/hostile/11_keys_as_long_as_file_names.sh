#!/bin/bash
# Keys as long as a file name may be: export --to pt and render write a file for each.
source "$(dirname "$0")/../lib.sh"

mkdir photos && cp "$A" photos/a.jpg && cp "$B" photos/z.jpg
cp "$A" photos/$(printf 'L%.0s' $(seq 247)).jpg && cp "$B" photos/$(printf '写%.0s' $(seq 82)).jpg
succeeds restyle pack photos 'shards/%06d.tar'
succeeds restyle invert shards/000000.tar --out lat $RUN
succeeds restyle export lat --to pt --out pt
for i in 1 2; do succeeds restyle render lat --out pictures; done
found="$(find pt -name '*.pt' | wc -l) and $(find pictures -name '*.jpg' | wc -l)"
[ "$found" = "4 and 4" ] || wrong "4 latents and 4 pictures" "$found"
exit $failed
