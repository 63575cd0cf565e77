"""What speaks for a fault of a picture, in a sentence: its measure beside what is usual there."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from fashionclip.doctor.findings import Kind
from fashionclip.doctor.shop import Shop

SIDES = ("left", "top", "right", "bottom")
CHANNELS = ("red", "green", "blue")


def evidence_for(shop: Shop, kind: Kind, row: int) -> str:
    """The evidence for one of the kinds that are learned from drawn faults."""
    return _EVIDENCE[kind](shop, row)


def _usual(shop: Shop, name: str) -> tuple[float, float]:
    """The 5th and the 95th percentile of a measure."""
    low, high = np.quantile(shop.measure(name), (0.05, 0.95))
    return float(low), float(high)


def _dark(shop: Shop, row: int) -> str:
    own, usual = shop.measure("light_end")[row], _usual(shop, "light_end")[0]
    return (
        f"its lightest twentieth begins at {own:.0%} of white; in 95 % of this shop's pictures at "
        f"{usual:.0%} or above"
    )


def _blurred(shop: Shop, row: int) -> str:
    own, usual = shop.measure("product_sharpness")[row], _usual(shop, "product_sharpness")[0]
    return f"sharpness {own:.2f}; in 95 % of this shop's pictures at least {usual:.2f}"


def _other_ground(shop: Shop, row: int) -> str:
    levels = [shop.measure(f"ground_{channel}") for channel in CHANNELS]
    own = "".join(f"{round(float(level[row]) * 255):02x}" for level in levels)
    usual = "".join(f"{round(float(np.median(level)) * 255):02x}" for level in levels)
    plain = float((shop.measure("plain_border") > 0.9).mean())
    return (
        f"its border is mostly #{own}; this shop's is usually #{usual}, and plain in {plain:.0%} "
        "of its pictures"
    )


def _cut_off(shop: Shop, row: int) -> str:
    own = {side: float(shop.measure(f"{side}_edge")[row]) for side in SIDES}
    usual = {side: _usual(shop, f"{side}_edge")[1] for side in SIDES}
    side = max(SIDES, key=lambda one: own[one] - usual[one])
    if own[side] <= usual[side]:
        return "its frame cuts through it, as in copies of this shop's pictures that were cut"
    return (
        f"it covers {own[side]:.0%} of the {side} edge; in 95 % of this shop's pictures at most "
        f"{usual[side]:.0%}"
    )


def _no_product(shop: Shop, row: int) -> str:
    own, (low, high) = shop.measure("product_share")[row], _usual(shop, "product_share")
    return f"{own:.0%} of it differs from its background; in this shop {low:.0%} to {high:.0%}"


def _several(shop: Shop, row: int) -> str:
    n_parts = round(float(np.expm1(shop.measure("parts")[row])))
    if n_parts < 2:
        return "looks like copies of this shop's pictures with several products in one frame"
    second = shop.measure("second_part")[row]
    return f"{n_parts} separate parts, the second {second:.0%} as large as the first"


def _overlay(shop: Shop, row: int) -> str:
    return "looks like copies of this shop's pictures with words drawn over them"


def _watermark(shop: Shop, row: int) -> str:
    return "looks like copies of this shop's pictures with a watermark drawn over them"


_EVIDENCE: Mapping[Kind, Callable[[Shop, int], str]] = MappingProxyType(
    {
        "several_products": _several,
        "no_product": _no_product,
        "text_overlay": _overlay,
        "watermark": _watermark,
        "cut_off": _cut_off,
        "blurred": _blurred,
        "dark": _dark,
        "other_ground": _other_ground,
    }
)
