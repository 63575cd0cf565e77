"""Batches ahead of the device: decoded, augmented and tokenised by threads.

Everything random about a pair follows from the seed, the epoch and its place in it, never from
threads, processes or what came before. So position is all the state there is, and a batch is the
same whatever number of processes shares it.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from fashionclip.errors import ImageError, ImageFetchError, TrainingError
from fashionclip.images.decode import Preprocess
from fashionclip.product import Reject
from fashionclip.text.tokenizer import Tokenizer
from fashionclip.train.captions import draw_caption
from fashionclip.train.pairs import Pairs
from fashionclip.train.pictures import decode, draw_pixels, stored_px
from fashionclip.train.recipe import Recipe

AHEAD = 2
"""Batches that are prepared while a step runs."""
AT_ONCE = 16
"""Pairs of one piece of work."""
MOST_BROKEN = 200
"""So many broken pictures in a row are no accident."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One process's share of a step."""

    pixels: UInt8[np.ndarray, "n size size 3"]
    tokens: Int32[np.ndarray, "n token"]
    keys: Int64[np.ndarray, "n 3"]
    """Hashes of product, caption and title: what makes two pairs the same."""
    attributes: Int64[np.ndarray, "n kind"]
    """Hashes of the attributes' values; 0 where unknown."""
    kept: Int64[np.ndarray, "n patch"] | None
    """Numbers of the patches that are looked at; None for all."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of each batch is this process's."""

    rank: int = 0
    world: int = 1


class Loader:
    """The batches of a run, from any step on."""

    def __init__(
        self,
        pairs: Pairs,
        rows: Int64[np.ndarray, " n"],
        recipe: Recipe,
        *,
        batch_size: int,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        n_patches: int,
        share: Share = Share(),
        on_reject: Callable[[Reject], None] | None = None,
    ) -> None:
        """Say what is loaded; nothing is read yet.

        Args:
            pairs: all pairs.
            rows: numbers of those that are trained on; at least ``batch_size``.
            recipe: its augmentation, seed, workers and cache.
            batch_size: pairs of a step, over all processes.
            tokenizer: the model's.
            preprocess: the model's.
            n_patches: that a picture has.
            share: this process's part of each batch.
            on_reject: called once for each picture that turns out broken.
        """
        self.steps_an_epoch = len(rows) // batch_size
        self._pairs, self._rows, self._recipe = pairs, rows, recipe
        self._batch_size, self._share = batch_size, share
        self._tokenizer, self._pre = tokenizer, preprocess
        self._n_patches = n_patches
        self._on_reject = on_reject
        self._broken: set[int] = set()
        self._lock = Lock()
        self._stored = _Stored(len(rows), stored_px(preprocess, recipe.augment), recipe)

    def batches(self, first_step: int) -> Generator[Batch]:
        """Prepare batch after batch, without end.

        Raises:
            TrainingError: hardly a picture can be read.
        """
        n_workers = self._recipe.data.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(n_workers) as pool:
            waiting: deque[list[Future[list[_Drawn]]]] = deque()
            step = first_step
            try:
                while True:
                    while len(waiting) <= AHEAD:
                        waiting.append(self._submit(pool, step))
                        step += 1
                    drawn = [one for future in waiting.popleft() for one in future.result()]
                    yield self._assemble(drawn)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> "list[Future[list[_Drawn]]]":
        epoch, i_batch = divmod(step, self.steps_an_epoch)
        order = np.random.default_rng((self._recipe.schedule.seed, epoch)).permutation(
            len(self._rows)
        )
        mine = self._batch_size // self._share.world
        first = i_batch * self._batch_size + self._share.rank * mine
        places = range(first, first + mine)
        return [
            pool.submit(self._draw_some, order, epoch, places[start : start + AT_ONCE])
            for start in range(0, mine, AT_ONCE)
        ]

    def _draw_some(self, order: np.ndarray, epoch: int, places: Sequence[int]) -> "list[_Drawn]":
        return [self._draw(order, epoch, place) for place in places]

    def _draw(self, order: np.ndarray, epoch: int, place: int) -> "_Drawn":
        """One pair of an epoch; one from half the data away where its picture is broken.

        Raises:
            TrainingError: picture after picture cannot be read.
        """
        recipe = self._recipe
        rng = np.random.default_rng((recipe.schedule.seed, epoch, place))
        for i_try in range(min(MOST_BROKEN, len(order))):
            away = i_try and i_try + len(order) // 2
            i_row = int(order[(place + away) % len(order)])
            stored = self._read(i_row)
            if stored is None:
                continue
            pair = self._pairs[int(self._rows[i_row])]
            pixels = draw_pixels(stored, self._pre.size_px, recipe.augment, rng)
            caption = draw_caption(pair, recipe.augment, rng)
            n_kept = max(1, round(self._n_patches * recipe.model.kept_patches))
            kept = None
            if n_kept < self._n_patches:
                kept = rng.permutation(self._n_patches)[:n_kept]
            keys = [_number(text) for text in (pair.product, caption, pair.title or caption)]
            attributes = [_number(value) if value else 0 for value in pair.attributes]
            return _Drawn(pixels, caption, keys, attributes, kept)
        message = (
            f"{min(MOST_BROKEN, len(order))} pictures in a row cannot be read; see rejects.jsonl, "
            "and check data.images"
        )
        raise TrainingError(message)

    def _read(self, i_row: int) -> np.ndarray | None:
        """A picture as it is kept; None if it is broken, which is told once."""
        found = self._stored.get(i_row)
        if found is not None or i_row in self._broken:
            return found
        i_pair = int(self._rows[i_row])
        try:
            found = decode(self._pairs.read_image_bytes(i_pair), self._pre, self._stored.side)
        except (ImageFetchError, ImageError) as exc:
            with self._lock:
                is_news = i_row not in self._broken
                self._broken.add(i_row)
            if is_news and self._on_reject is not None:
                pair = self._pairs[i_pair]
                place = pair.picture if isinstance(pair.picture, str) else pair.picture.place
                self._on_reject(Reject(pair.row, pair.pair_id, place, str(exc)))
            return None
        self._stored.put(i_row, found)
        return found

    def _assemble(self, drawn: "Sequence[_Drawn]") -> Batch:
        kept = [one.kept for one in drawn if one.kept is not None]
        return Batch(
            pixels=np.stack([one.pixels for one in drawn]),
            tokens=self._tokenizer.encode([one.caption for one in drawn]),
            keys=np.array([one.keys for one in drawn], dtype=np.int64),
            attributes=np.array([one.attributes for one in drawn], dtype=np.int64),
            kept=np.stack(kept).astype(np.int64) if kept else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """One pair as a step sees it."""

    pixels: np.ndarray
    caption: str
    keys: Sequence[int]
    attributes: Sequence[int]
    kept: np.ndarray | None


class _Stored:
    """Decoded pictures, as many as the recipe grants memory for; the others are decoded anew."""

    def __init__(self, n_rows: int, side: int, recipe: Recipe) -> None:
        self.side = side
        room = int(recipe.data.cache_gb * 1e9) // (3 * side * side)
        self._pixels = np.empty((min(n_rows, room), side, side, 3), dtype=np.uint8)
        self._is_here = np.zeros(len(self._pixels), dtype=bool)

    def get(self, i_row: int) -> np.ndarray | None:
        if i_row >= len(self._pixels) or not self._is_here[i_row]:
            return None
        found: np.ndarray = self._pixels[i_row]
        return found

    def put(self, i_row: int, pixels: np.ndarray) -> None:
        if i_row < len(self._pixels):
            self._pixels[i_row] = pixels
            self._is_here[i_row] = True


def _number(text: str) -> int:
    """63 bits that stand for a text, whatever its case."""
    digest = blake2b(text.casefold().encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) or 1
