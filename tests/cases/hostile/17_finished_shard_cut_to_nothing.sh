#!/bin/bash
# A Parquet file of 0 bytes counted as a finished shard: the same command does it again, or says what is wrong.
source "$(dirname "$0")/../lib.sh"

cp "$A" a.jpg && tar -cf a.tar a.jpg
succeeds restyle invert a.tar --out lat $RUN
truncate -s 0 lat/*.parquet
limited 6 120 restyle invert a.tar --out lat $RUN
[ "$rc" != 0 ] || expect_rows lat "a ok"
exit $failed
