#!/bin/bash
# Photos are packed, some are withdrawn, and the folder is packed again: no shard of the first packing stays.
source "$(dirname "$0")/../lib.sh"

mkdir photos && for i in 1 2 3 4 5; do cp "$A" photos/p$i.jpg; done
succeeds restyle pack photos 'sh/%06d.tar' --samples 2
rm photos/p[345].jpg
limited 6 60 restyle pack photos 'sh/%06d.tar' --samples 2
[ "$(ls sh)" = 000000.tar ] || [ "$rc" = 2 ] || wrong "one shard, or a refusal" "$(ls sh | tr '\n' ' ')"
exit $failed
