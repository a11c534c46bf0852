#!/bin/bash
# A standard output that is full, and a standard error that is closed, as a daemon has it.
source "$(dirname "$0")/../lib.sh"

L=$DEMO/latents
restyle status "$L" > /dev/full 2> err.txt && wrong "a status that tells that nothing was written" "status 0"
! grep -q Traceback err.txt || wrong "one sentence" "a traceback"
restyle invert "$A" --out full $RUN --json > /dev/full 2> err.txt && wrong "events that cannot be told" "status 0"
grep -q '^Error: the output cannot be written' err.txt || wrong "one sentence" "$(head -1 err.txt)"
restyle verify "$L" 2>&- > verified.txt || wrong "status 0 of verify without a standard error" "another"
restyle export "$L" --to npy --out e.npy 2>&- > exported.txt || wrong "status 0 of export without one" "another"
exit $failed
