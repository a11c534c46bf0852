#!/bin/bash
# A folder of photos with a link to a folder on another disk, and with one that points nowhere (git-annex, DVC).
source "$(dirname "$0")/../lib.sh"

mkdir -p photos/part1 disk2/part2 && cp "$A" photos/part1/a.jpg && cp "$A" disk2/part2/b.jpg
ln -s "$WORK/disk2/part2" photos/part2 && ln -s ../.annex/objects/c.jpg photos/part1/c.jpg
succeeds restyle pack photos 'sh/%06d.tar'
packed=$(tar tf sh/000000.tar | sort | tr '\n' ' ')
[ "$packed" = "part1/a.jpg part2/b.jpg " ] || wrong "part1/a.jpg and part2/b.jpg in the shard" "$packed"
grep -q c.jpg out.txt || wrong "a line that part1/c.jpg points nowhere" "$said"
exit $failed
