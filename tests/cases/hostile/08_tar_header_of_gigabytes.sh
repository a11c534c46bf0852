#!/bin/bash
# A .tar.gz of 3 MB with a pax header, or a long name, of 768 MB, which whoever read it held three times.
source "$(dirname "$0")/../lib.sh"

python - <<'P'
import gzip
import tarfile

for name, kind in (("pax", b"x"), ("longname", b"L")):
    header, photo = tarfile.TarInfo("x"), tarfile.TarInfo("a.jpg")
    header.size, header.type, photo.size = 3 << 28, kind, 3
    with gzip.open(f"{name}.tar.gz", "wb", 1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(header.size >> 24):
            file.write(bytes(1 << 24))
        file.write(photo.tobuf() + b"abc".ljust(512, b"\0") + bytes(10240))
P
for name in pax longname; do
  told 1.5 120 restyle invert $name.tar.gz --out o --dry-run --keep-fields json --align none --metrics ''
done
python "$CASES/stranger.py" st "$WORK/pax.tar.gz"
told 1.5 120 restyle report st --out r.html
exit $failed
