#!/bin/bash
# Photos in a folder named __raw__, and in one with a newline and a dot in its name: a row each.
source "$(dirname "$0")/../lib.sh"

strange=$(printf 'n\nl.d')
mkdir -p photos/__raw__ photos/sub "photos/$strange"
cp "$A" photos/__raw__/one.jpg && cp "$B" photos/sub/two.jpg && cp "$A" "photos/$strange/three.jpg"
succeeds restyle pack photos 'shards/%06d.tar'
succeeds restyle invert shards/000000.tar --out lat $RUN
succeeds restyle verify lat
[ "$(rows lat | grep -c ' ok$')" = 3 ] || wrong "three rows ok" "$(rows lat)"
exit $failed
