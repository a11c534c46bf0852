#!/bin/bash
# A folder named in Latin-1, from an old disk or a zip of Windows.
source "$(dirname "$0")/../lib.sh"

folder=$(printf 'fotos_caf\xe9')
mkdir "$folder" && tar -C "$DEMO/photos" -cf "$folder/000000.tar" portrait_00.jpg
told 6 60 restyle invert "$folder/*.tar" --out lat $RUN --dry-run
exit $failed
