#!/bin/bash
# The user's own pipeline.py stands in the folder in which restyle is started: no worker runs it.
source "$(dirname "$0")/../lib.sh"

cp "$A" a.jpg && tar -cf 000000.tar a.jpg
printf 'import os\nopen(os.environ["MARK"], "a").write("ran\\n")\n\ndef main():\n    return 1\n' > pipeline.py
export MARK=$WORK/mark
succeeds restyle invert 000000.tar --out lat $RUN
mv pipeline.py ran.txt
expect_rows lat "a ok"
[ ! -e mark ] || wrong "the user's file is never run" "it ran $(wc -l < mark) times"
exit $failed
