"""Every image becomes a square of pixels, or a one-line error."""

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageCms, ImageOps

import fashionclip
from encoded_images import image_bytes
from fashionclip.errors import ImageError
from fashionclip.images import IMAGE_FORMATS
from fashionclip.images.decode import (
    Preprocess,
    background_color,
    declared_pixels,
    decode_image,
    fit_image,
    open_image,
    preprocess,
    thumbnail,
)
from fashionclip.images.rgb import to_rgb
from icc_profiles import rgb_profile


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    return image_bytes(image, kind, **options)


def textured(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth image with detail: low-frequency noise with a few sharp edges."""
    rng = np.random.default_rng(seed)
    cells = (min(height, 300) // 8 + 2, min(width, 300) // 8 + 2, 3)
    small = rng.integers(0, 256, cells, dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    pixels = pixels.copy()
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (200, 30, 60)
    return Image.fromarray(pixels)


def pixel_of(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = decode_image(data)
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.putpixel((3, 3), (10, 20, 30, 255))
    assert pixel_of(encode(clear)) == (255, 255, 255)
    assert pixel_of(encode(clear), (3, 3)) == (10, 20, 30)
    assert pixel_of(encode(Image.new("LA", (8, 8), (0, 0)))) == (255, 255, 255)


def test_half_transparency_is_blended():
    assert pixel_of(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))) == (127, 127, 127)


def test_a_palette_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((2, 2), 1)
    data = encode(image, transparency=0)
    assert pixel_of(data) == (255, 255, 255)
    assert pixel_of(data, (2, 2)) == (200, 10, 10)
    assert pixel_of(encode(image, transparency=bytes([0, 255]))) == (255, 255, 255)


def test_an_rgb_png_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    assert pixel_of(encode(image, transparency=(1, 2, 3))) == (255, 255, 255)


def test_cmyk_jpegs_keep_their_colour():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    value = pixel_of(encode(red, "JPEG", quality=95))
    assert value[0] > 200
    assert max(value[1:]) < 60


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_greys_keep_their_brightness(kind):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = decode_image(encode(Image.fromarray(ramp), kind))
    expected = np.rint(ramp / 257)
    assert np.abs(np.asarray(image)[:, :, 0] - expected).max() <= 1


def test_a_dark_sixteen_bit_grey_stays_dark():
    dark = np.full((8, 8), 200, dtype=np.uint16)  # 0.3 % of full white
    assert pixel_of(encode(Image.fromarray(dark))) == (1, 1, 1)


def test_exif_rotation_is_undone():
    image = Image.new("RGB", (40, 20), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    upright = decode_image(encode(image, "JPEG", exif=exif, quality=95))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[1] < 40  # red is now on top
    assert upright.getpixel((10, 35))[1] > 215


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel_of(data) == (250, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "LAB", "F", "I"])
def test_every_mode_becomes_rgb(mode):
    rgb = Image.new("RGB", (8, 8), (120, 120, 120))
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(rgb, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    elif mode in {"F", "I"}:
        image = rgb.convert("L").convert(mode)
    else:
        image = rgb.convert(mode)
    assert to_rgb(image).mode == "RGB"


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_smallest_images_fit(side, fit):
    pixels = preprocess(encode(Image.new("RGB", (side, 4 - side), (9, 8, 7))), Preprocess(32, fit))
    assert pixels.shape == (32, 32, 3)
    assert (pixels == (9, 8, 7)).all()


def test_a_very_long_image_fits():
    assert preprocess(textured(4000, 3), Preprocess(32)).shape == (32, 32, 3)
    assert preprocess(textured(4000, 3), Preprocess(32, "pad")).shape == (32, 32, 3)


@settings(max_examples=60)
@given(
    st.integers(1, 60),
    st.integers(17, 60),
    st.booleans(),
    st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    st.integers(0, 9),
)
def test_a_strip_is_cropped_before_it_is_enlarged_with_the_same_pixels(
    short, aspect, is_tall, resample, margin
):
    size = (short, short * aspect + 1) if is_tall else (short * aspect + 1, short)
    image = Image.fromarray(
        np.random.default_rng(short).integers(0, 256, (size[1], size[0], 3), np.uint8)
    )
    edge = 32 + margin
    full = [edge if side == short else int(edge * side / short) for side in size]
    left, top = ((side - 32) // 2 for side in full)
    whole = image.resize(tuple(full), Image.Resampling[resample.upper()])
    expected = np.asarray(whole.crop((left, top, left + 32, top + 32)))
    ours = fit_image(image, Preprocess(32, resample=resample, shortest_edge_px=edge))
    assert (ours == expected).all()


@pytest.mark.parametrize(
    "size", [(224, 224), (225, 300), (300, 225), (168, 224), (600, 801), (1000, 227), (64, 100)]
)
def test_crop_agrees_with_transformers_to_the_pixel(size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = textured(*size)
    processor = CLIPImageProcessorPil(do_normalize=False, do_rescale=False)
    expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = fit_image(image, Preprocess(224))
    assert np.abs(ours.astype(int) - expected.astype(int)).max() == 0


def test_a_crop_smaller_than_the_short_side_agrees_with_transformers():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = textured(300, 411)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 256}, crop_size=224, do_normalize=False, do_rescale=False
    )
    expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = fit_image(image, Preprocess(224, shortest_edge_px=256))
    assert np.abs(ours.astype(int) - expected.astype(int)).max() == 0


def test_pad_keeps_the_whole_image_on_its_background():
    image = Image.new("RGB", (60, 120), (240, 238, 236))
    image.paste((10, 20, 200), (20, 0, 40, 120))  # a trouser leg from the top to the hem
    pixels = fit_image(image, Preprocess(120, "pad"))
    assert tuple(pixels[60, 0]) == (240, 238, 236)
    assert tuple(pixels[0, 60]) == (10, 20, 200)
    assert tuple(pixels[119, 60]) == (10, 20, 200)


def test_the_background_is_what_most_of_the_border_shows():
    image = Image.new("RGB", (100, 100), (12, 34, 56))
    image.paste((255, 0, 0), (30, 30, 70, 100))
    assert background_color(image) == (12, 34, 56)


@pytest.mark.parametrize("size", [(1080, 1440), (2400, 1800), (3000, 4000)])
def test_decoding_large_jpegs_at_reduced_size_hardly_changes_a_pixel(size):
    data = encode(textured(*size), "JPEG", quality=90)
    exact = fit_image(decode_image(data), Preprocess(224)).astype(float)
    fast = preprocess(data, Preprocess(224)).astype(float)
    assert np.abs(exact - fast).mean() < 1.0


def test_arrays_bytes_and_images_are_the_same_image():
    image = textured(50, 70)
    pre = Preprocess(32)
    expected = preprocess(image, pre)
    assert (preprocess(encode(image), pre) == expected).all()
    assert (preprocess(np.asarray(image), pre) == expected).all()
    assert (preprocess(np.asarray(image) / 255.0, pre) == expected).all()


def test_grey_and_four_channel_arrays_are_images():
    grey = np.full((20, 20), 77, dtype=np.uint8)
    assert (preprocess(grey, Preprocess(8)) == 77).all()
    assert (preprocess(grey[:, :, None], Preprocess(8)) == 77).all()
    clear = np.zeros((20, 20, 4), dtype=np.uint8)
    assert (preprocess(clear, Preprocess(8)) == 255).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4,), np.uint8), r"not \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.int64), "not int64"),
        (np.full((4, 4, 3), 255.0), "divide by 255"),
        (np.full((4, 4), np.nan), "divide by 255"),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_the_mend(array, reason):
    with pytest.raises(ImageError, match=reason):
        preprocess(array, Preprocess(8))


def test_a_path_is_no_image_here():
    with pytest.raises(TypeError):
        preprocess("shirt.jpg", Preprocess(8))


def test_a_truncated_jpeg_says_so():
    data = encode(textured(300, 300), "JPEG")
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[: len(data) // 2])


def test_an_empty_file_says_so():
    with pytest.raises(ImageError, match="empty"):
        decode_image(b"")


FTYP = b"\0\0\0\x18ftyp"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"id,title\n1,Red shirt\n", r"the file is text \(id,title 1,Red shirt\); name an image"),
        (b"\n<!DOCTYPE html><html><body>404</body>", r"a web page \(HTML\) instead of an image"),
        (b"\xef\xbb\xbf <HTML lang=de>", "a web page"),
        (b"<?xml version='1.0'?>\n<!-- x --><svg xmlns='http://www.w3.org'/>", "an SVG drawing"),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>",
            r"XML text \(<\?xml.*AccessDenied",
        ),
        (b'{"error": "not found"}', r"JSON text \(\{\"error\": \"not found\"\}\)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d",
            "Git LFS .*; run 'git lfs pull'$",
        ),
        ("\ufeff<html><body>404".encode("utf-16-le"), "a web page"),
        (FTYP + b"heic\0\0\0\0mif1heic" + bytes(200), "the HEIC image cannot be decoded"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document; save its page as PNG or JPEG$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "an EPS or PostScript drawing"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
        (b"8BPS\0\x01", "a Photoshop file"),
        (FTYP + b"isom\0\0\2\0isomiso2", r"a video \(MP4"),
        (FTYP + b"qt  \0\0\2\0qt  ", r"a video \(MP4"),
        (b"\x1aE\xdf\xa3\x01", "a video"),
        (b"RIFF\x24\0\0\0AVI LIST", "a video"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image"),
        (bytes(5000), "zero bytes"),
        (b"\x01\x02\x03\xff" * 9, "not in a known image format"),
    ],
)
def test_a_file_that_is_no_image_says_what_it_is(data, what):
    with pytest.raises(ImageError, match=what) as caught:
        decode_image(data)
    assert "\n" not in str(caught.value)


def test_heic_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = encode(Image.new("RGB", (64, 64)), "HEIF")
    with pytest.raises(ImageError, match=r"HEIC.* pip install 'fashionclip\[heic\]'$"):
        decode_image(data)


def test_heic_leaves_pillows_registry_as_it_is():
    decode_image(encode(Image.new("RGB", (64, 64)), "HEIF"))
    assert "HEIF" not in Image.OPEN


def test_no_other_program_is_started(monkeypatch, tmp_path):
    for name in ("gs", "gswin64c", "gswin32c"):
        (tmp_path / name).write_text(f"#!/bin/sh\n: > {tmp_path}/started\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    drawing = encode(Image.new("RGB", (16, 16)), "EPS")
    for source in (drawing, Image.open(io.BytesIO(drawing))):
        with pytest.raises(ImageError, match="an EPS"):
            preprocess(source, Preprocess(32))
        with pytest.raises(ImageError, match="an EPS"):
            thumbnail(source, max_px=32)
    assert declared_pixels(drawing) == 0
    with contextlib.suppress(Exception):
        Image.open(io.BytesIO(drawing)).load()  # what would have happened
    assert (tmp_path / "started").exists()


def test_images_are_opened_in_one_module_only():
    package = Path(fashionclip.__file__).parent
    opening = [path for path in package.rglob("*.py") if "Image.open(" in path.read_text("utf-8")]
    assert opening == [package / "images" / "decode.py"]


# metadata


def with_chunk(data: bytes, kind: bytes, body: bytes, check: int | None = None) -> bytes:
    """A PNG with one more chunk, after its header."""
    check = zlib.crc32(kind + body) if check is None else check
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
    return data[:33] + chunk + data[33:]


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment, before all others."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


PNG_METADATA = [
    *(b"acTL bKGD cHRM eXIf fcTL fdAT gAMA hIST iCCP iTXt oFFs".split()),
    *(b"pHYs sBIT sPLT sRGB sTER tEXt tIME tRNS zTXt caBX abCd".split()),
]
JPEG_METADATA = (
    *(b"JFIF\0", b"JFXX\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0"),
    *(b"ICC_PROFILE\0", b"FPXR\0", b"Photoshop 3.0\x008BIM", b"Adobe", b""),
)


@settings(max_examples=150)
@given(st.sampled_from(PNG_METADATA), st.binary(max_size=12), st.sampled_from(["RGB", "L", "P"]))
@example(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3 << 20)), "RGB")
@example(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(3 << 20)), "RGB")
@example(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(bytes(3 << 20)), "RGB")
@example(b"iCCP", b"icc\0\7", "RGB")
@example(b"tRNS", b"", "P")
@example(b"eXIf", bytes(1 << 20), "RGB")
@example(b"eXIf", b"MM\0*\xff\xff\xff\xff", "RGB")
def test_no_chunk_of_metadata_decides_whether_a_png_is_read(kind, body, mode):
    plain = encode(Image.new("RGB", (12, 9), (9, 8, 7)).convert(mode))
    image = decode_image(with_chunk(plain, kind, body))
    assert image.size == (12, 9)
    if kind != b"tRNS":  # a whole one makes pixels transparent
        assert image.getpixel((5, 5)) == pixel_of(plain, (5, 5))


@settings(max_examples=150)
@given(
    st.sampled_from([*range(0xE0, 0xF0), 0xFE]),
    st.sampled_from(JPEG_METADATA),
    st.binary(max_size=9),
)
@example(0xE0, b"JFIF\0", b"")
@example(0xEE, b"Adobe", b"")
@example(0xE2, b"ICC_PROFILE\0", b"")
@pytest.mark.filterwarnings("ignore")  # Pillow's, on EXIF and MPF
def test_no_segment_of_metadata_decides_whether_a_jpeg_is_read(marker, name, body):
    plain = encode(Image.new("RGB", (12, 9), (9, 80, 7)), "JPEG")
    image = decode_image(with_segment(plain, marker, name + body))
    assert image.size == (12, 9)
    if not (marker == 0xEE and len(name + body) >= 12):  # says which colours the JPEG has
        assert image.getpixel((5, 5)) == pixel_of(plain, (5, 5))


def test_a_damaged_checksum_of_metadata_does_not_matter():
    plain = encode(Image.new("RGB", (12, 9), (9, 8, 7)))
    assert pixel_of(with_chunk(plain, b"tEXt", b"a\0b", check=7)) == (9, 8, 7)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_metadata_that_is_skipped_does_not_undo_a_rotation_or_the_colours(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif, "icc_profile": rgb_profile("P3")}
    data = encode(Image.new("RGB", (40, 20), (200, 30, 30)), kind, **options)
    broken = with_chunk(data, b"cHRM", b"") if kind == "PNG" else with_segment(data, 0xEE, b"Adobe")
    assert (decode_image(broken).size, pixel_of(broken)) == ((20, 40), pixel_of(data))
    assert pixel_of(broken) != pixel_of(encode(Image.new("RGB", (40, 20), (200, 30, 30)), kind))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(textured(40, 20), "PNG", exif=exif)
    upright = decode_image(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (np.asarray(upright) == np.asarray(expected)).all()
    assert (np.asarray(open_image(upright)) == np.asarray(expected)).all()


def test_a_broken_exif_is_ignored():
    data = encode(Image.new("RGB", (40, 20)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode_image(data).size == (40, 20)


def is_image_or_one_line_error(data: bytes) -> bool:
    try:
        return decode_image(data).mode == "RGB"
    except ImageError as error:
        return "\n" not in str(error)


def png_header(width: int, height: int) -> bytes:
    """A PNG with a large size in its header and hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 50_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    with pytest.raises(ImageError, match="too large to decode safely"):
        decode_image(png_header(side, side))


def progressive(n_scans: int, side: int = 16) -> bytes:
    """A progressive JPEG whose last scan is repeated, which changes no pixel."""
    data = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (n_scans - data.count(b"\xff\xda")) + data[-2:]


@given(st.integers(7, 200), st.binary(max_size=20), st.binary(max_size=20))
def test_a_jpeg_of_more_than_a_hundred_scans_is_refused(n_scans, note, video):
    data = with_segment(progressive(n_scans), 0xFE, note + b"\xff\xda" * 200)
    data += video + b"\xff\xda" * 200  # as the photographs of phones carry
    if n_scans <= 100:
        assert pixel_of(data) == (90, 90, 90)
    else:
        with pytest.raises(ImageError, match="more than 100 scans"):
            decode_image(data)


@pytest.mark.parametrize(
    ("kind", "part", "allowed", "refused"),
    [
        ("PNG", with_chunk(bytes(33), b"tEXt", b"")[33:], 1_000, 100_000),
        ("JPEG", b"\xff\xe5\0\2", 1_000, 100_001),
        ("JPEG", b"\xff", 1_000, 1_000_001),
    ],
)
def test_a_file_of_very_many_parts_is_refused(kind, part, allowed, refused):
    plain = encode(Image.new("RGB", (12, 9), (9, 8, 7)), kind)
    at = 33 if kind == "PNG" else 2
    assert pixel_of(plain[:at] + part * allowed + plain[at:]) == pixel_of(plain)
    with pytest.raises(ImageError, match="too many chunks or segments"):
        decode_image(plain[:at] + part * refused + plain[at:])


def test_a_large_jpeg_has_fewer_scans():
    with pytest.raises(ImageError, match="more than 80 scans"):
        decode_image(progressive(81, side=5_000), max_pixels=25_000_000)


def test_a_long_banner_is_no_bomb():
    data = encode(Image.new("RGB", (30_000, 40), (1, 2, 3)))
    assert decode_image(data).size == (30_000, 40)


@settings(max_examples=150)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff"]),
    st.binary(max_size=200),
)
def test_any_bytes_become_an_image_or_an_image_error(start, data):
    assert is_image_or_one_line_error(start + data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_an_image_cut_off_anywhere_becomes_an_image_or_an_image_error(kind):
    data = encode(Image.new("RGB", (8, 8), (9, 8, 7)), kind)
    assert all(is_image_or_one_line_error(data[:end]) for end in range(len(data)))


@settings(max_examples=100)
@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"]))
def test_a_damaged_image_becomes_an_image_or_an_image_error(position, value, kind):
    data = bytearray(encode(textured(40, 40), kind))
    data[position % len(data)] = value
    assert is_image_or_one_line_error(bytes(data))


@pytest.mark.parametrize("kind", IMAGE_FORMATS, ids=lambda kind: kind.name)
def test_every_listed_format_is_decoded(kind):
    image = Image.new("RGB", (16, 16), (200, 30, 60))
    red, green, blue = pixel_of(encode(image, kind.name))
    assert abs(red - 200) + abs(green - 30) + abs(blue - 60) < 30
