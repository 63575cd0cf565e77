"""Near duplicates: the fast index finds what comparing every pair finds."""

import numpy as np
import pytest

from fashionclip.images.near_duplicates import (
    HASH_BYTES,
    MAX_BITS,
    MAX_LEVELS,
    HashIndex,
    near_duplicate_groups,
    perceptual_hash,
)
from fashionclip.sample import generate_images

N_BIT_BYTES = HASH_BYTES - 12  # the rest are colours


def copies_of(hashes, n, rng):
    """Rows of hashes, with some bits flipped and some levels shifted."""
    copies = hashes[rng.integers(0, len(hashes), n)]
    shift = rng.integers(-8, 9, (n, 12)) * (rng.random((n, 1)) < 0.5)
    copies[:, N_BIT_BYTES:] = np.clip(copies[:, N_BIT_BYTES:].astype(int) + shift, 0, 255)
    flips = rng.random((n, 8 * N_BIT_BYTES)) < rng.choice([0.03, 0.08, 0.12], (n, 1))
    copies[:, :N_BIT_BYTES] ^= np.packbits(flips, axis=1)
    return copies


def is_near_duplicate(ours, theirs):
    """The reference: every pair is compared."""
    bits = [np.unpackbits(h[:, :N_BIT_BYTES], axis=1)[:, :255].astype(int) for h in (ours, theirs)]
    n_bits = bits[0] @ (1 - bits[1]).T + (1 - bits[0]) @ bits[1].T
    levels = np.abs(ours[:, None, N_BIT_BYTES:].astype(int) - theirs[:, N_BIT_BYTES:]).max(axis=2)
    return (n_bits <= MAX_BITS) & (levels <= MAX_LEVELS)


def test_the_index_finds_what_comparing_every_pair_finds():
    rng = np.random.default_rng(0)
    known = rng.integers(0, 256, (900, HASH_BYTES), dtype=np.uint8)
    hashes = copies_of(known, 700, rng)
    expected = is_near_duplicate(hashes, known)
    assert 50 < expected.any(axis=1).sum() < 650
    index = HashIndex(known)
    assert index.contains(hashes).tolist() == expected.any(axis=1).tolist()
    found = {row: sorted(matches.tolist()) for row, matches in index.matches(hashes)}
    assert found == {
        row: np.flatnonzero(right).tolist() for row, right in enumerate(expected) if right.any()
    }


def test_groups_are_those_of_the_first_image_that_each_is_like():
    rng = np.random.default_rng(1)
    known = rng.integers(0, 256, (60, HASH_BYTES), dtype=np.uint8)
    hashes = np.concatenate([known, copies_of(known, 200, rng)])[rng.permutation(260)]
    alike = is_near_duplicate(hashes, hashes)
    groups = {}
    for row in range(len(hashes)):
        first = next((first for first in groups if alike[row, first]), row)
        groups.setdefault(first, []).append(row)
    expected = [rows for rows in groups.values() if len(rows) > 1]
    assert expected
    assert near_duplicate_groups(hashes) == expected


def test_nothing_has_no_near_duplicates():
    nothing = np.empty((0, HASH_BYTES), np.uint8)
    assert near_duplicate_groups(nothing) == []
    assert HashIndex(nothing).contains(nothing).tolist() == []


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_an_image_of_another_size_keeps_its_hash(scale):
    images = generate_images(12)
    resized = [im.resize((int(im.width * scale), int(im.height * scale))) for im in images]
    index = HashIndex(np.stack([perceptual_hash(image) for image in images]))
    assert index.contains(np.stack([perceptual_hash(image) for image in resized])).all()
