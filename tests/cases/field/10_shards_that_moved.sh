#!/bin/bash
# The shards move to another disk and are asked for again into the same --out: no row stands twice.
source "$(dirname "$0")/../lib.sh"

mkdir old && cp "$A" a.jpg && tar -cf old/000000.tar a.jpg
succeeds restyle invert 'old/*.tar' --out lat $RUN
mv old new
succeeds restyle invert 'new/*.tar' --out lat $RUN
succeeds restyle verify lat
expect_rows lat "a ok"
exit $failed
