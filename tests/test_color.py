"""Colour profiles are converted to sRGB, and never decide whether an image is read."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from encoded_images import image_bytes
from fashionclip.images.color import srgb_transform
from fashionclip.images.decode import decode_image, open_image
from fashionclip.model import FashionCLIP
from icc_profiles import PRIMARIES, cmyk_profile, grey_profile, rgb_profile

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
MEASURED = ["P3", "Adobe", "ProPhoto"]
BEST = {
    **{"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}},
    **{"AVIF": {"quality": 98}, "HEIF": {"quality": 98}},
}


def photo(seed: int = 1) -> Image.Image:
    """Smooth colours that all the spaces have."""
    small = np.random.default_rng(seed).integers(40, 216, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((150, 180), Image.Resampling.BICUBIC)


def in_space(image: Image.Image, profile: bytes, mode: str = "RGB") -> Image.Image:
    """The same colours by the numbers of another space."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.ImageCmsTransform(SRGB, target, image.mode, mode)
    converted = transform.apply(image)
    converted.info.clear()
    return converted


def mean_gap(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


def furthest(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


@pytest.mark.parametrize("space", MEASURED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG"])
def test_the_colours_of_a_profile_become_srgb(space, kind):
    profile = rgb_profile(space)
    wide = in_space(photo(), profile)
    decoded = decode_image(image_bytes(wide, kind, icc_profile=profile, **BEST.get(kind, {})))
    assert mean_gap(decoded, photo()) < 2
    assert furthest(open_image(decoded), decoded) == 0  # converted once


@pytest.mark.parametrize("space", MEASURED)
def test_a_model_sees_the_same_picture_in_every_space(space):
    profile = rgb_profile(space)
    vivid = Image.new("RGB", (200, 240), (235, 235, 230))
    vivid.paste((200, 20, 31), (50, 40, 150, 200))
    data = image_bytes(in_space(vivid, profile), "PNG", icc_profile=profile)
    one, other = FashionCLIP().encode_images([vivid, data])
    assert one @ other >= 0.99


@pytest.mark.parametrize("profile", [SRGB.tobytes(), rgb_profile("sRGB")])
def test_an_srgb_profile_changes_nothing(profile):
    assert srgb_transform(profile, "RGB") is None
    data = image_bytes(photo(), "PNG", icc_profile=profile)
    assert furthest(decode_image(data), photo()) == 0


def test_transparency_and_palettes_have_profiles_too():
    profile = rgb_profile("Adobe")
    clear = in_space(photo(), profile).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 20, 20))
    decoded = decode_image(image_bytes(clear, "PNG", icc_profile=profile))
    assert decoded.getpixel((5, 5)) == (255, 255, 255)
    assert mean_gap(decoded.crop((30, 30, 150, 180)), photo().crop((30, 30, 150, 180))) < 2
    flat = in_space(Image.new("RGB", (8, 8), (180, 60, 60)), profile).quantize(4)
    decoded = decode_image(image_bytes(flat, "PNG", icc_profile=profile))
    assert furthest(decoded, Image.new("RGB", (8, 8), (180, 60, 60))) <= 3


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_have_profiles_of_their_own(mode):
    dark = Image.new(mode, (8, 8), 128 if mode == "L" else (128, 255))
    data = image_bytes(dark, "PNG", icc_profile=grey_profile(1.0))
    assert furthest(decode_image(data), Image.new("RGB", (8, 8), (188, 188, 188))) <= 1
    data = image_bytes(dark, "PNG", icc_profile=rgb_profile("ProPhoto"))
    assert furthest(decode_image(data), Image.new("RGB", (8, 8), (146, 146, 146))) <= 3


def test_inks_are_converted_by_their_profile():
    magenta = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    data = image_bytes(magenta, "JPEG", quality=100, icc_profile=cmyk_profile())
    red, green, blue = decode_image(data).getpixel((8, 8))
    assert green > 150 > max(red, blue)
    white = image_bytes(Image.new("CMYK", (16, 16)), "JPEG", icc_profile=cmyk_profile())
    assert min(decode_image(white).getpixel((8, 8))) >= 250


@pytest.mark.parametrize(
    "profile",
    [
        *(b"no profile", rgb_profile("P3")[:300], cmyk_profile(), grey_profile(1.0)),
        *(rgb_profile("P3").replace(b"rXYZ", b"zzzz"), bytes(5 << 20), b"\xff" * 132),
    ],
)
def test_a_profile_that_cannot_be_used_is_ignored(profile):
    data = image_bytes(photo(), "TIFF", icc_profile=profile)
    assert furthest(decode_image(data), photo()) == 0


def test_large_images_are_converted_in_bands(monkeypatch):
    profile = rgb_profile("P3")
    data = image_bytes(in_space(photo(), profile).convert("RGBA"), icc_profile=profile, kind="PNG")
    deep = Image.fromarray((np.arange(150 * 180, dtype=np.uint16) * 2).reshape(180, 150))
    whole = decode_image(data), open_image(deep)
    monkeypatch.setattr("fashionclip.images.rgb.BAND_PIXELS", 999)
    assert furthest(decode_image(data), whole[0]) == 0
    assert furthest(open_image(deep), whole[1]) == 0


def test_the_spaces_of_these_tests_differ_from_srgb():
    for space in MEASURED:
        assert mean_gap(in_space(photo(), rgb_profile(space)), photo()) > 4
    assert set(PRIMARIES) == {"sRGB", *MEASURED}
