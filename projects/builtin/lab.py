"""sRGB to CIELAB and back, under the white of D65.

Sources: IEC 61966-2-1:1999 (sRGB's primaries and transfer function), CIE 15:2004, section 8.2.1
    (CIELAB).
"""

import numpy as np

_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32
)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_WHITE = _TO_XYZ.sum(1)
"""XYZ of sRGB's white."""
_KNEE = 6 / 29
"""Below its cube, CIELAB's cube root becomes a line."""


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB pixels.

    Args:
        rgb: ``(..., 3)``, 0…255.

    Returns:
        ``(..., 3)`` float32: lightness L* in 0…100, a* (green to red) and b* (blue to yellow).
    """
    parts = np.asarray(rgb, np.float32) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    roots = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def to_rgb(lab: np.ndarray) -> np.ndarray:
    """The pixels of CIELAB colours in sRGB; what it cannot show is cut off by channel.

    Args:
        lab: ``(..., 3)``, as ``to_lab`` returns it.

    Returns:
        ``(..., 3)`` float32, 0…255.
    """
    y = (lab[..., 0] + 16) / 116
    roots = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(roots > _KNEE, roots**3, 3 * _KNEE**2 * (roots - 4 / 29)) * _WHITE
    linear = (xyz @ _FROM_XYZ.T).clip(0, 1)
    parts = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * parts).astype(np.float32)
