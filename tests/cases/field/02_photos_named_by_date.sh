#!/bin/bash
# Photos named by date, with dots in their names, put into a tar by hand: a row each.
source "$(dirname "$0")/../lib.sh"

cp "$A" 2023.01.05_12.30.11.jpg && cp "$B" 2023.01.05_12.31.40.jpg && cp "$A" 2023.02.07_09.00.00.jpg
tar --sort=name -cf 000000.tar 2023*.jpg
succeeds restyle invert 000000.tar --out lat $RUN
expect_rows lat "2023.01.05_12.30.11 ok
2023.01.05_12.31.40 ok
2023.02.07_09.00.00 ok"
exit $failed
