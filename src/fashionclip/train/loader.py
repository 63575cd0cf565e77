"""Batches of pairs: their order and seeds; decoded, augmented and tokenized ahead of the device.

Everything random about a pair depends on the seed, the epoch and the pair's position in it. So a
batch is a function of its step alone: it does not depend on threads, on the number of processes
or on earlier batches, and a resumed run continues with the same batches.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock

import numpy as np
from jaxtyping import Float16, Float32, Int32, Int64, UInt8

from fashionclip.errors import ImageError, ImageFetchError, TrainingError
from fashionclip.images.decode import Preprocess
from fashionclip.product import Reject
from fashionclip.text.tokenizer import Tokenizer
from fashionclip.train.augment import (
    augment_image,
    change_value,
    color_pattern,
    decode,
    mix_images,
    sample_caption,
    stored_px,
    view_patches,
    without_colors,
)
from fashionclip.train.data import DataSource, color_columns
from fashionclip.train.distributed import SINGLE_PROCESS, ProcessGroup
from fashionclip.train.recipe import Recipe

N_BATCHES_AHEAD = 2
"""Batches that are prepared while a step runs."""
PAIRS_PER_TASK = 16
"""Pairs that a thread prepares at a time."""
MAX_BROKEN_IN_A_ROW = 200
"""The run stops after this many unreadable images in a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One process's part of a batch."""

    rows: Int64[np.ndarray, " n"]
    """Indices of the pairs in the data source."""
    pixels: UInt8[np.ndarray, "n size size 3"]
    tokens: Int32[np.ndarray, "n token"]
    keys: Int64[np.ndarray, "n 3"]
    """Hashes of product, caption and title, by which duplicates are found."""
    attributes: Int64[np.ndarray, "n attribute"]
    """Hashes of the attributes' values; 0 where unknown."""
    patches: Int64[np.ndarray, "n patch"] | None
    """Indices of the patches to encode; None for all."""
    mixed_with: Int64[np.ndarray, " n"]
    """The row of this part that a part of each image is of; the own row where none is."""
    mix_ratio: Float32[np.ndarray, " n"]
    """Ratio of each image that is its own."""
    patch_targets: Float32[np.ndarray, "n patch channel"] | None
    """Targets of the patches that are encoded; NaN for those of a grayscale image."""
    changed_rows: Int64[np.ndarray, " m"]
    """The rows of this part that have a caption with a changed word."""
    changed_tokens: Int32[np.ndarray, "m changed_token"]
    """Those captions."""


class Loader:
    """The batches of a run, from any step on."""

    def __init__(
        self,
        source: DataSource,
        rows: Int64[np.ndarray, " n"],
        recipe: Recipe,
        *,
        batch_size: int,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        n_patches: int,
        group: ProcessGroup = SINGLE_PROCESS,
        on_reject: Callable[[Reject], None] | None = None,
    ) -> None:
        """Store the settings; nothing is read yet.

        Args:
            source: all pairs.
            rows: indices of the pairs to train on; at least ``batch_size``.
            recipe: its augmentation, seed, workers and cache.
            batch_size: pairs per step, over all processes.
            tokenizer: the model's.
            preprocess: the model's.
            n_patches: patches of an image.
            group: the processes that share each batch.
            on_reject: called once for each unreadable image.

        Raises:
            TrainingError: the patch targets cannot be used.
        """
        self.steps_per_epoch = len(rows) // batch_size
        self._source, self._rows, self._recipe = source, rows, recipe
        self._batch_size, self._group = batch_size, group
        self._tokenizer, self._pre = tokenizer, preprocess
        self._n_patches = n_patches
        self._on_reject = on_reject
        self.patch_targets = load_patch_targets(recipe, source[len(source) - 1].row, n_patches)
        self._color_columns = color_columns(recipe.data.attributes)
        is_needed = self._color_columns and recipe.augment.grayscale
        colors = self._values(self._color_columns) if is_needed else []
        self._colors = color_pattern({value for some in colors for value in some})
        changed = recipe.loss.changed if recipe.loss.hard_negatives else ()
        self._changed_columns = [recipe.data.attributes.index(name) for name in changed]
        self._changed_values = self._values(self._changed_columns)
        self._broken: set[int] = set()
        self._lock = Lock()
        self._stored = _DecodedImages(len(rows), stored_px(preprocess, recipe.augment), recipe)

    def _values(self, columns: Sequence[int]) -> list[list[str]]:
        """The values that the training pairs have of some attributes."""
        found: list[set[str]] = [set() for _ in columns]
        for row in self._rows.tolist() if columns else ():
            attributes = self._source[row].attributes
            for values, column in zip(found, columns, strict=True):
                values.add(attributes[column])
        return [sorted(values - {""}) for values in found]

    def iter_batches(self, first_step: int) -> Generator[Batch]:
        """Prepare batches without end, from a step on.

        Raises:
            TrainingError: too many images in a row cannot be read.
        """
        n_workers = self._recipe.data.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(n_workers) as pool:
            pending: deque[list[Future[list[_Example]]]] = deque()
            step = first_step
            try:
                while True:
                    while len(pending) <= N_BATCHES_AHEAD:
                        pending.append(self._submit(pool, step))
                        step += 1
                    examples = [one for future in pending.popleft() for one in future.result()]
                    yield self._collate(examples, step - len(pending) - 1)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> "list[Future[list[_Example]]]":
        epoch, i_batch = divmod(step, self.steps_per_epoch)
        seed = (self._recipe.schedule.seed, epoch)
        order = np.random.default_rng(seed).permutation(len(self._rows))
        n_own = self._batch_size // self._group.size
        first = i_batch * self._batch_size + self._group.rank * n_own
        positions = range(first, first + n_own)

        def make(some: Sequence[int]) -> "list[_Example]":
            return [self._make(order, epoch, position) for position in some]

        starts = range(0, n_own, PAIRS_PER_TASK)
        return [pool.submit(make, positions[i : i + PAIRS_PER_TASK]) for i in starts]

    def _make(self, order: np.ndarray, epoch: int, position: int) -> "_Example":
        """The pair at a position of an epoch; another pair where its image is unreadable.

        Raises:
            TrainingError: too many images in a row cannot be read.
        """
        recipe = self._recipe
        rng = np.random.default_rng((recipe.schedule.seed, epoch, position))
        max_tries = min(MAX_BROKEN_IN_A_ROW, len(order))
        for i_try in range(max_tries):
            offset = i_try and i_try + len(order) // 2
            i_row = int(order[(position + offset) % len(order)])
            stored = self._read(i_row)
            if stored is None:
                continue
            row = int(self._rows[i_row])
            pair = self._source[row]
            pixels, view = augment_image(stored, self._pre.size_px, recipe.augment, rng)
            if view.is_gray:
                pair = without_colors(pair, self._colors, self._color_columns)
            caption = sample_caption(pair, recipe.augment, rng)
            n_kept = max(1, round(self._n_patches * recipe.model.patch_keep_ratio))
            patches = None
            if n_kept < self._n_patches:
                patches = rng.permutation(self._n_patches)[:n_kept]
            keys = [hash_text(text) for text in (pair.product, caption, pair.title or caption)]
            attributes = [hash_text(value) if value else 0 for value in pair.attributes]
            targets = None
            if self.patch_targets is not None:
                whole = self.patch_targets[pair.row - 1].astype(np.float32)
                targets = view_patches(whole, view)
                if view.is_gray:
                    targets[:] = np.nan  # they may tell colors, which are gone
            own = [pair.attributes[column] for column in self._changed_columns]
            changed = change_value(caption, [*zip(own, self._changed_values, strict=True)], rng)
            return _Example(row, pixels, caption, keys, attributes, patches, targets, changed)
        message = (
            f"{max_tries} images in a row cannot be read; see rejects.jsonl, and check data.images"
        )
        raise TrainingError(message)

    def _read(self, i_row: int) -> np.ndarray | None:
        """A decoded image; None if it is unreadable, which is reported once."""
        found = self._stored.get(i_row)
        if found is not None or i_row in self._broken:
            return found
        row = int(self._rows[i_row])
        try:
            found = decode(self._source.read_image(row), self._pre, self._stored.side)
        except (ImageFetchError, ImageError) as exc:
            with self._lock:
                is_new = i_row not in self._broken
                self._broken.add(i_row)
            if is_new and self._on_reject is not None:
                pair = self._source[row]
                self._on_reject(Reject(pair.row, pair.pair_id, pair.location, str(exc)))
            return None
        self._stored.put(i_row, found)
        return found

    def _collate(self, examples: "Sequence[_Example]", step: int) -> Batch:
        patches = [one.patches for one in examples if one.patches is not None]
        pixels = np.stack([one.pixels for one in examples])
        targets = [one.patch_targets for one in examples if one.patch_targets is not None]
        patch_targets = np.stack(targets) if targets else None
        rng = np.random.default_rng((self._recipe.schedule.seed, step, self._group.rank, 1))
        ratio = self._recipe.augment.mix
        mixed_with, mix_ratio = mix_images(pixels, patch_targets, self._n_patches, ratio, rng)
        if patch_targets is not None and patches:
            indices = np.stack(patches)[:, :, None]
            patch_targets = np.take_along_axis(patch_targets, indices, axis=1)
        # a mixed image shows two products, so that neither caption is quite right
        changed = [i for i, one in enumerate(examples) if one.changed and mix_ratio[i] == 1]
        return Batch(
            rows=np.array([one.row for one in examples], dtype=np.int64),
            pixels=pixels,
            tokens=self._tokenizer.encode([one.caption for one in examples]),
            keys=np.array([one.keys for one in examples], dtype=np.int64),
            attributes=np.array([one.attributes for one in examples], dtype=np.int64),
            patches=np.stack(patches).astype(np.int64) if patches else None,
            mixed_with=mixed_with,
            mix_ratio=mix_ratio,
            patch_targets=patch_targets,
            changed_rows=np.array(changed, dtype=np.int64),
            changed_tokens=self._tokenizer.encode([examples[i].changed for i in changed]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Example:
    """One pair as a step uses it."""

    row: int
    pixels: np.ndarray
    caption: str
    keys: Sequence[int]
    attributes: Sequence[int]
    patches: np.ndarray | None
    patch_targets: np.ndarray | None
    changed: str


def load_patch_targets(
    recipe: Recipe, n_rows: int, n_patches: int
) -> Float32[np.ndarray, "row patch channel"] | Float16[np.ndarray, "row patch channel"] | None:
    """Memory-map the recipe's patch targets; None without any.

    Raises:
        TrainingError: they cannot be read, or are not of these rows and patches.
    """
    path = recipe.data.patch_targets
    if not (path and recipe.loss.patches):
        return None
    try:
        targets: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as exc:
        message = f"data.patch_targets: {path} is no NumPy file of numbers ({exc})"
        raise TrainingError(message) from exc
    if targets.ndim != 3 or len(targets) < n_rows or targets.shape[1] != n_patches:
        message = (
            f"data.patch_targets: {path} has the shape {targets.shape}; it must be "
            f"({n_rows}, {n_patches}, channels)"
        )
        raise TrainingError(message)
    return targets


class _DecodedImages:
    """Decoded images, as many as fit into the recipe's memory; the others are decoded again."""

    def __init__(self, n_rows: int, side: int, recipe: Recipe) -> None:
        self.side = side
        n_max = int(recipe.data.cache_gb * 1e9) // (3 * side * side)
        self._pixels = np.empty((min(n_rows, n_max), side, side, 3), dtype=np.uint8)
        self._is_filled = np.zeros(len(self._pixels), dtype=bool)

    def get(self, i_row: int) -> np.ndarray | None:
        if i_row >= len(self._pixels) or not self._is_filled[i_row]:
            return None
        found: np.ndarray = self._pixels[i_row]
        return found

    def put(self, i_row: int, pixels: np.ndarray) -> None:
        if i_row < len(self._pixels):
            self._pixels[i_row] = pixels
            self._is_filled[i_row] = True


def hash_text(text: str) -> int:
    """A positive number of 63 bits for a text, whatever its case."""
    digest = blake2b(text.casefold().encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) or 1
