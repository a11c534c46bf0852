#!/bin/bash
# One shard under three spellings (// in front, a link): each row stands once.
source "$(dirname "$0")/../lib.sh"

cp "$A" a.jpg && tar -cf a.tar a.jpg && ln -s a.tar b.tar
told 6 120 restyle invert "$WORK/a.tar" "/$WORK/a.tar" "$WORK/b.tar" --out lat $RUN
[ "$rc" = 2 ] || expect_rows lat "a ok"
exit $failed
