"""``preprocessor_config.json``: size, fit and colours of pictures, as a frozen value and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from fashionclip.checkpoint.config import CLIPConfig
from fashionclip.errors import CheckpointError
from fashionclip.images.decode import CLIP_MEAN, CLIP_STD, Fit, Preprocess, Resample

_RESAMPLE: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow
_FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
ROUNDING = 1e-6  # of a scale; a file's 0.00392156862745098 is 1 / 255


def read_preprocess(raw: Mapping[str, Any] | None, config: CLIPConfig, *, place: str) -> Preprocess:
    """Read a ``preprocessor_config.json``; None means CLIP's own preprocessing.

    ``fit`` is this package's key: ``crop`` (CLIP's), ``pad`` or ``stretch``.

    Raises:
        CheckpointError: a value is not usable, or the size is not the picture tower's.
    """
    raw = raw or {}
    image_px = config.vision.image_px
    if raw.get("fit", "crop") not in _FITS:
        message = f"{place} says fit '{raw['fit']}'; it is one of {', '.join(_FITS)}"
        raise CheckpointError(message)
    try:
        size, crop = raw.get("size") or image_px, raw.get("crop_size") or image_px
        size_px = _side(crop) if raw.get("do_center_crop", True) else _side(size)
        fit = raw.get("fit") or _fit(raw, size, crop)
        mean, std = _normalisation(raw)
        pre = Preprocess(
            size_px=size_px,
            fit=fit,
            resample=_RESAMPLE[int(raw.get("resample", 3))],
            shortest_edge_px=_side(size) if fit == "crop" and _side(size) != size_px else None,
            mean=mean,
            std=std,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as exc:
        message = f"{place} holds a value that is not usable ({exc}); fetch the file again"
        raise CheckpointError(message) from exc
    if pre.size_px != image_px:
        message = f"{place} makes pictures of {pre.size_px} px, but the model takes {image_px} px"
        raise CheckpointError(message)
    return pre


def _fit(raw: Mapping[str, Any], size: object, crop: object) -> Fit:
    """Tell the fit where our own key does not.

    Raises:
        ValueError: the picture would be stretched and then cropped, or not be a square.
    """
    is_cropped = raw.get("do_center_crop", True)
    if not (isinstance(size, Mapping) and "height" in size):
        return "crop" if is_cropped else "stretch"
    if size["height"] != size["width"] or (is_cropped and _side(size) != _side(crop)):
        message = f"size {dict(size)} with crop_size {crop}"
        raise ValueError(message)
    return "stretch"


def _side(size: object) -> int:
    if isinstance(size, Mapping):
        return int(size["shortest_edge"] if "shortest_edge" in size else size["height"])
    return int(size)  # type: ignore[call-overload, no-any-return]


def _normalisation(
    raw: Mapping[str, Any],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation of pixels in 0…1, whatever scale the file counts in.

    Raises:
        ValueError: a deviation is not above 0.
    """
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if raw.get("do_normalize", True):
        mean, std = (
            _triple(raw.get("image_mean", CLIP_MEAN)),
            _triple(raw.get("image_std", CLIP_STD)),
        )
    scale = 255 * float(raw.get("rescale_factor", 1 / 255)) if raw.get("do_rescale", True) else 255
    if abs(scale - 1) > ROUNDING:
        mean, std = _triple([m / scale for m in mean]), _triple([s / scale for s in std])
    if min(std) <= 0:
        message = f"image_std {std}"
        raise ValueError(message)
    return mean, std


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def write_preprocess(pre: Preprocess) -> dict[str, Any]:
    """Write a ``preprocessor_config.json`` that ``CLIPImageProcessor`` reads, with our ``fit``."""
    numbers = {name: number for number, name in _RESAMPLE.items()}
    sides = {"height": pre.size_px, "width": pre.size_px}
    edge = {"shortest_edge": pre.shortest_edge_px or pre.size_px}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "fit": pre.fit,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": sides if pre.fit == "stretch" else edge,
        "resample": numbers[pre.resample],
        "do_center_crop": pre.fit != "stretch",
        "crop_size": sides,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pre.mean),
        "image_std": list(pre.std),
    }
