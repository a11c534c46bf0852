#!/bin/bash
# Shards in a folder whose name holds braces, expanded by the shell already: a file that is there is taken as it is.
source "$(dirname "$0")/../lib.sh"

mkdir 'set{a,b}' 'run{1' && cp "$A" a.jpg && tar -cf 'set{a,b}/000000.tar' a.jpg
cp 'set{a,b}/000000.tar' 'run{1/000000.tar'
for shard in set*/*.tar run*/*.tar; do succeeds restyle invert "$shard" --out lat $RUN --dry-run; done
exit $failed
