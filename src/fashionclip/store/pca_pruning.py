"""PCA bounds that prune candidates before exact scoring.

A single query against 100,000 vectors reads every byte of them and waits for memory. CLIP's vectors
of one catalogue lie close to a few directions, so a few principal components bound each score from
above for a quarter of the bytes and of the work. Only vectors that can still be among the best are
scored whole. The result is exact: the bound holds for every basis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from fashionclip.store.halves import to_floats

MIN_ROWS = 20_000  # fewer vectors are all read within 2 ms
MAX_ROWS = 300_000  # of more, a store's approximate index is quicker, and takes no memory here
ROWS_FITTED = 20_000  # that the components are found from
MIN_ENERGY = 0.93
"""Share of the vectors' squared length in the basis; with less, too many candidates remain."""
MAX_DIM_RATIO = 0.5  # with more components, the vectors themselves are as quickly read
ROUNDING = 1e-4  # of a score: more than float32 rounds off
GATHER_BYTES = 500_000  # of vectors that are gathered at once
MAX_GATHER_RATIO = 0.1  # a larger share of all vectors is scored with all the others
ROWS_PER_HIT = 10  # of a shortlist; with KAGL's titles it has .998 of the 200 best
ROWS_PER_PART = 1_024
BLOCK_ROWS = 64  # scores of which only the largest counts when a bound is sought


@dataclass(frozen=True, slots=True, eq=False)
class PCAPruning:
    """Vectors in the basis of their first principal components."""

    basis: Float32[np.ndarray, "dim component"]
    """Orthonormal columns."""
    coordinates: Float32[np.ndarray, "n component"]
    residuals: Float32[np.ndarray, " n"]
    """Length of what lies outside the basis."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.basis.nbytes + self.coordinates.nbytes + self.residuals.nbytes

    def updated(
        self, is_kept: Bool[np.ndarray, " n"], added: Float32[np.ndarray, "more dim"]
    ) -> "PCAPruning":
        """The same basis over the rows that are kept, with added vectors after them."""
        coordinates, residuals = _projected(added, self.basis)
        return replace(
            self,
            coordinates=np.concatenate([self.coordinates[is_kept], coordinates]),
            residuals=np.concatenate([self.residuals[is_kept], residuals]),
        )

    def candidates(
        self,
        queries: Float32[np.ndarray, "query dim"],
        vectors: Float[np.ndarray, "n dim"],
        *,
        ks: Sequence[int],
        masks: Sequence[Bool[np.ndarray, " n"] | None],
    ) -> list[Int[np.ndarray, " _"]]:
        """For each query, in order, the rows that can be among its k best; no other row can.

        With a query ``q`` and a vector ``v`` split into their parts inside and outside the basis,
        ``q @ v <= q_in @ v_in + |q_out| * |v_out|`` (Cauchy-Schwarz). The k-th best score among the
        rows with the largest ``q_in @ v_in`` is a score that k rows reach, so a row whose bound is
        lower is out.

        Args:
            queries: of any length.
            vectors: those that the basis was fitted to.
            ks: rows wanted by each query.
            masks: for each query, True for the rows to choose from; None for all.
        """
        inside = queries @ self.basis
        outside = np.linalg.norm(queries - inside @ self.basis.T, axis=1)
        estimates = inside @ self.coordinates.T
        apply_masks(estimates, masks)
        likely = top_rows(estimates, max(ks))
        scores = scores_of_rows(likely, vectors, queries)
        reached = [kth_largest(some, k) - ROUNDING for some, k in zip(scores, ks, strict=True)]
        bounds = np.array(reached, np.float32) - outside * self.residuals.max(initial=0)
        near = _rows_reaching(estimates, bounds)  # one pass excludes most rows
        return [
            rows[row[rows] >= bound - length * self.residuals[rows]]
            for row, rows, bound, length in zip(estimates, near, reached, outside, strict=True)
        ]

    def likely(
        self,
        queries: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        masks: Sequence[Bool[np.ndarray, " n"] | None],
    ) -> list[Int[np.ndarray, " _"]]:
        """For each query, in order, the rows that nearly all of its k best are among.

        They are those with the largest ``q_in @ v_in``, ``ROWS_PER_HIT`` times as many as are
        wanted: a fifth of what can be excluded with certainty where k is large.
        """
        estimates = (queries @ self.basis) @ self.coordinates.T
        apply_masks(estimates, masks)
        return top_rows(estimates, k * ROWS_PER_HIT)


def principal_axes(
    vectors: Float32[np.ndarray, "n dim"],
) -> tuple[Float[np.ndarray, " dim"], Float32[np.ndarray, "dim component"]]:
    """The principal axes of vectors about zero, the one with most of their squared length first.

    Returns:
        The share of the squared length that the axes up to each one hold, and the axes as columns.
    """
    energies, components = np.linalg.eigh(vectors.T @ vectors)  # the smallest first
    shares = np.cumsum(energies[::-1]) / max(float(energies.sum()), np.finfo(np.float32).tiny)
    return shares, np.ascontiguousarray(components[:, ::-1], dtype=np.float32)


def fit_pruning(vectors: Float[np.ndarray, "n dim"]) -> PCAPruning | None:
    """Fit a basis; None where too many components are needed for ``MIN_ENERGY``."""
    if not vectors.size:
        return None
    sample = vectors[:: max(1, len(vectors) // ROWS_FITTED)]
    shares, axes = principal_axes(to_floats(sample))
    n_components = int(np.searchsorted(shares, MIN_ENERGY)) + 1
    if n_components > MAX_DIM_RATIO * vectors.shape[1]:
        return None
    basis = np.ascontiguousarray(axes[:, :n_components])
    return PCAPruning(basis, *_projected(vectors, basis))


def apply_masks(
    scores: Float32[np.ndarray, "query n"], masks: Sequence[Bool[np.ndarray, " n"] | None]
) -> None:
    """Set the scores of rows that a mask excludes to -inf; None excludes none."""
    for row, mask in zip(scores, masks, strict=True):
        if mask is not None:
            row[~mask] = -np.inf


def top_rows(scores: Float32[np.ndarray, "query n"], k: int) -> list[Int[np.ndarray, " _"]]:
    """For each query, in order, the rows of its k largest scores and few others; none at -inf."""
    return _rows_reaching(scores, _bounds(scores, k))


def kth_largest(scores: Float32[np.ndarray, " n"], k: int) -> float:
    """The k-th largest score; -inf where there are fewer."""
    return float(np.partition(scores, -k)[-k]) if k <= len(scores) else -np.inf


def scores_of_all(
    vectors: Float[np.ndarray, "n dim"], queries: Float32[np.ndarray, "query dim"]
) -> Float32[np.ndarray, "query n"]:
    """The scores of all rows for each query; halves are made floats a part at a time."""
    if vectors.dtype == np.float32:
        return np.asarray(queries @ vectors.T, np.float32)
    scores = np.empty((len(queries), len(vectors)), np.float32)
    for rows in _parts(len(vectors)):
        np.matmul(queries, to_floats(vectors[rows]).T, out=scores[:, rows])
    return scores


def scores_of_rows(
    rows: Sequence[Int[np.ndarray, " _"]],
    vectors: Float[np.ndarray, "n dim"],
    queries: Float32[np.ndarray, "query dim"],
) -> list[Float32[np.ndarray, " _"]]:
    """The scores of some rows for each query.

    Vectors are gathered into one buffer that is used again and again: the system takes longer to
    hand out fresh pages of memory than the vectors take to read.
    """
    n_buffered = max(1, GATHER_BYTES // vectors[:1].nbytes) if len(vectors) else 1
    buffer = np.empty((n_buffered, vectors.shape[1]), vectors.dtype)
    found = [np.empty(len(some), np.float32) for some in rows]
    for query, some, scores in zip(queries, rows, found, strict=True):
        if len(some) > MAX_GATHER_RATIO * len(vectors):
            np.take(scores_of_all(vectors, query[None])[0], some, out=scores)
            continue
        for start in range(0, len(some), len(buffer)):
            part = some[start : start + len(buffer)]
            gathered = vectors.take(part, axis=0, out=buffer[: len(part)], mode="clip")
            np.matmul(to_floats(gathered), query, out=scores[start : start + len(part)])
    return found


def _bounds(scores: Float32[np.ndarray, "query n"], k: int) -> Float32[np.ndarray, " query"]:
    """For each query a bound that its k largest scores reach, and few others.

    The k-th largest of the blocks' maxima is one; a partition of all scores takes ten times as
    long.
    """
    n_queries, n = scores.shape
    n_blocks = n // BLOCK_ROWS
    if 2 * k < n_blocks:
        # a block is every n_blocks-th score: runs are compared whole, six times as fast
        blocks = scores[:, : n_blocks * BLOCK_ROWS].reshape(n_queries, BLOCK_ROWS, n_blocks)
        scores = blocks.max(axis=1)
    if k > scores.shape[1]:
        return np.full(n_queries, -np.inf, np.float32)
    return np.asarray(np.partition(scores, -k, axis=1)[:, -k], np.float32)


def _rows_reaching(
    scores: Float32[np.ndarray, "query n"], bounds: Float32[np.ndarray, " query"]
) -> list[Int[np.ndarray, " _"]]:
    """For each query the rows whose score reaches its bound; a score of -inf never does.

    All queries are compared together: NumPy releases Python's lock for every large array, and then
    has to wait for it again.
    """
    finite = np.maximum(bounds, np.finfo(np.float32).min)
    flat = np.flatnonzero(scores >= finite[:, None])
    starts = np.arange(len(scores)) * scores.shape[1]
    parts = np.split(flat, np.searchsorted(flat, starts[1:]))
    return [rows - start for rows, start in zip(parts, starts, strict=True)]


def _projected(
    vectors: Float[np.ndarray, "n dim"], basis: Float32[np.ndarray, "dim component"]
) -> tuple[Float32[np.ndarray, "n component"], Float32[np.ndarray, " n"]]:
    coordinates = np.empty((len(vectors), basis.shape[1]), np.float32)
    squares = np.empty(len(vectors), np.float32)
    for rows in _parts(len(vectors)):
        part = to_floats(vectors[rows])
        inside = np.matmul(part, basis, out=coordinates[rows])
        squares[rows] = np.einsum("nd,nd->n", part, part) - np.einsum("nd,nd->n", inside, inside)
    return coordinates, np.sqrt(np.maximum(squares, 0.0))


def _parts(n_rows: int) -> Iterator[slice]:
    """Rows that are made floats together: few enough to stay in the processor's cache."""
    return (slice(start, start + ROWS_PER_PART) for start in range(0, n_rows, ROWS_PER_PART))
