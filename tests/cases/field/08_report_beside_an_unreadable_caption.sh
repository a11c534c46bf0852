#!/bin/bash
# One caption of two is in Latin-1, so that its row is a field_error: the shard has not changed for all that.
source "$(dirname "$0")/../lib.sh"

cp "$A" a.jpg && cp "$B" b.jpg && printf 'caf\xe9' > a.txt && echo tea > b.txt
tar --sort=name -cf 000000.tar a.jpg a.txt b.jpg b.txt
succeeds restyle invert 000000.tar --out lat $RUN --keep-fields txt
expect_rows lat "a field_error
b ok"
succeeds restyle report lat --out report.html
! grep -q 'has changed' out.txt || wrong "no word of a changed shard" "$(grep 'has changed' out.txt)"
exit $failed
