#!/bin/bash
# PNG files that every viewer shows, with more than 1 MB of compressed metadata.
source "$(dirname "$0")/../lib.sh"

python - "$A" <<'P'
import struct
import sys
import tarfile
import zlib

from PIL import Image

Image.open(sys.argv[1]).convert("RGB").save("plain.png")
png = open("plain.png", "rb").read()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


metadata = {
    "plain": b"",
    "ztxt": chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(b"0" * 1_500_000)),
    "itxt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 1_500_000)),
    "iccp": chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_500_000))),
}
with tarfile.open("000000.tar", "w") as tar:
    for name, extra in metadata.items():
        open(name + ".png", "wb").write(png[:33] + extra + png[33:])
        tar.add(name + ".png")
P
succeeds restyle invert 000000.tar --out lat $RUN
expect_rows lat "iccp ok
itxt ok
plain ok
ztxt ok"
exit $failed
