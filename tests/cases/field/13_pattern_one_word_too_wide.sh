#!/bin/bash
# 'data/*' also matches the statistics that img2dataset writes beside its shards.
source "$(dirname "$0")/../lib.sh"

mkdir data && cp "$A" a.jpg && tar -cf data/00000.tar a.jpg && echo '{}' > data/00000_stats.json
told 6 120 restyle invert 'data/*' --out lat $RUN
succeeds restyle invert 'data/*.tar' --out lat $RUN
succeeds restyle verify lat
expect_rows lat "a ok"
exit $failed
