"""ICC profiles, made from the numbers that define their colour spaces (ICC.1:2010)."""

import struct
from collections.abc import Mapping, Sequence

D50 = (0.9642, 1.0, 0.8249)
PRIMARIES: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)),
    "P3": ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)),
    "Adobe": (
        (0.60974, 0.31111, 0.01947),
        (0.20528, 0.62567, 0.06087),
        (0.14919, 0.06322, 0.74457),
    ),
    "ProPhoto": ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)),
}
"""XYZ of red, green and blue, adapted to D50."""
GAMMA = {"Adobe": 2.2, "ProPhoto": 1.8}
"""Of the spaces that do not have the curve of sRGB."""


def rgb_profile(name: str) -> bytes:
    """A matrix profile of one of ``PRIMARIES``."""
    tags = {f"{c}XYZ": xyz(v) for c, v in zip("rgb", PRIMARIES[name], strict=True)}
    return profile("RGB ", {**tags, **{f"{c}TRC": curve(GAMMA.get(name)) for c in "rgb"}})


def grey_profile(gamma: float) -> bytes:
    """A profile of greys with one curve."""
    return profile("GRAY", {"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """A printer whose full magenta is green, so that an applied profile cannot be overlooked."""
    lab_of = {(0, 0, 0, 0): (255, 128, 128), (0, 1, 0, 0): (140, 60, 190)}
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    grid = b"".join(bytes(lab_of.get(corner, (20, 128, 128))) for corner in corners)
    identity = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    return profile("CMYK", {"A2B0": lut}, connection="Lab ", kind="prtr")


def profile(
    space: str, tags: Mapping[str, bytes], *, connection: str = "XYZ ", kind: str = "mntr"
) -> bytes:
    tags = {"wtpt": xyz(D50), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name.encode() + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, *_ascii(kind, space, connection))
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *map(fixed, D50))
    return header.ljust(128, b"\0") + table + body


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *map(fixed, values))


def curve(gamma: float | None) -> bytes:
    """A power, or sRGB's curve."""
    if gamma is not None:
        return b"para\0\0\0\0\0\0\0\0" + struct.pack(">i", fixed(gamma))
    parts = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0\0\3\0\0" + struct.pack(">5i", *map(fixed, parts))


def fixed(value: float) -> int:
    return round(value * 65536)


def _ascii(*names: str) -> list[bytes]:
    return [name.encode() for name in names]
