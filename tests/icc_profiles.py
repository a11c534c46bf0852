"""Small ICC profiles for tests: the colours of a screen or of a press, in the fewest bytes that are valid."""

import struct

# Red, green and blue in XYZ, adapted to D50, as the profiles of Apple and Adobe have them.
DISPLAY_P3 = [
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
]
ADOBE_RGB = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
SRGB = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
SRGB_CURVE = struct.pack(">4sIHH5i", b"para", 0, 3, 0, *(round(v * 65536) for v in (
    2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))  # fmt: skip
ADOBE_CURVE = struct.pack(">4sIIHH", b"curv", 0, 1, 0x0233, 0)


def screen(primaries, curve=SRGB_CURVE):
    """An RGB profile of three primaries and one curve for all."""
    tags = {f"{name}XYZ".encode(): _xyz(xyz) for name, xyz in zip("rgb", primaries, strict=True)}
    curves = {f"{name}TRC".encode(): curve for name in "rgb"}
    return _profile(
        b"mntr", b"RGB ", b"XYZ ", {b"wtpt": _xyz((0.9642, 1, 0.8249)), **tags, **curves}
    )


def grey():
    """A grey profile of gamma 2.2."""
    tags = {b"wtpt": _xyz((0.9642, 1, 0.8249)), b"kTRC": ADOBE_CURVE}
    return _profile(b"mntr", b"GRAY", b"XYZ ", tags)


def press(lab_of_inks):
    """A CMYK profile: a function tells the Lab colour of each of the 16 ways to print inks in full."""
    ramp = bytes(range(256))
    corners = [[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    colours = b"".join(
        bytes([round(light * 2.55), round(a) + 128, round(b) + 128])
        for light, a, b in (lab_of_inks(*inks) for inks in corners)
    )
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = struct.pack(">4sIBBBx", b"mft1", 0, 4, 3, 2) + matrix + ramp * 4 + colours + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz((0.9642, 1, 0.8249)), b"A2B0": table})


def _xyz(values):
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in values))


def _profile(device, colours, connection, tags):
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12x4s",
        place + len(body),
        b"test",
        0x02400000,
        device,
        colours,
        connection,
        b"acsp",
    )
    white = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    header = header + bytes(68 - len(header)) + white
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body
