#!/bin/bash
# tar -C photos -cf x.tar . makes members named ./anna.jpg: their keys are anna and so on.
source "$(dirname "$0")/../lib.sh"

mkdir photos && cp "$A" photos/anna.jpg && cp "$B" photos/ben.jpg
tar -C photos -cf 000000.tar .
succeeds restyle invert 000000.tar --out lat $RUN
succeeds restyle interpolate lat anna ben --out m.webp
succeeds restyle render lat --out pictures --keys anna
[ -e m.webp ] || wrong "a film" "none"
exit $failed
