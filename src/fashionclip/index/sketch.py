"""Fewer numbers a vector, by which most products are ruled out before they are looked at whole.

A lone query against 100,000 vectors reads every byte of them, and waits for memory; many queries
wait for the processor. CLIP's vectors of one catalogue lie close to a few directions, so their
principal components tell, for a quarter of the bytes and of the work, how large each score can be
at most; only products that can still be among the best are scored whole. Nothing is missed: the
bound holds for every basis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int

FEWEST_ROWS = 20_000  # below, all vectors are read within 2 ms
ENERGY = 0.93
"""Part of the vectors' squared length that the components hold; less leaves too many products."""
MOST = 0.5  # of the dimensions; with more of them the vectors themselves are as quickly read
SLACK = 1e-4  # of a score: more than float32 rounds off
ROOM = 500_000  # bytes of rows that are gathered at once
FEW_ROWS = 0.1  # of all: so many are looked at one by one rather than with all the others
BLOCK = 64  # scores of which only the largest is looked at when the best are sought


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Vectors in the basis of their first principal components."""

    basis: Float32[np.ndarray, "dim few"]
    """Orthonormal columns."""
    parts: Float32[np.ndarray, "n few"]
    rest: Float32[np.ndarray, " n"]
    """Length of what lies outside the basis."""

    def kept(
        self, stays: Bool[np.ndarray, " n"], fresh: Float32[np.ndarray, "more dim"]
    ) -> "Sketch":
        """The sketch of the rows that stay and of fresh ones after them, in the same basis."""
        parts, rest = _parts(fresh, self.basis)
        return replace(
            self,
            parts=np.concatenate([self.parts[stays], parts]),
            rest=np.concatenate([self.rest[stays], rest]),
        )

    def contenders(
        self,
        queries: Float32[np.ndarray, "query dim"],
        ks: Sequence[int],
        vectors: Float32[np.ndarray, "n dim"],
        passing: Sequence[Bool[np.ndarray, " n"] | None],
    ) -> list[Int[np.ndarray, " _"]]:
        """For each query the rows that can be among its k best, in their order; no other can.

        With a query ``q`` and a vector ``v`` split into their parts inside and outside the basis,
        ``q @ v <= q_in @ v_in + |q_out| * |v_out|`` (Cauchy-Schwarz). At least k rows reach the
        k-th best score among those that look best by ``q_in @ v_in``; what cannot reach it is out.

        Args:
            queries: their lengths do not matter.
            ks: rows wanted of each.
            vectors: those of this sketch.
            passing: for each, True for the rows to choose from; None for all.
        """
        inside = queries @ self.basis
        outside = np.linalg.norm(queries - inside @ self.basis.T, axis=1)
        guesses = inside @ self.parts.T
        hide(guesses, passing)
        likely = likeliest(guesses, max(ks))
        scores = scores_of(likely, vectors, queries)
        reached = [least(some, k) - SLACK for some, k in zip(scores, ks, strict=True)]
        bounds = np.array(reached, np.float32) - outside * self.rest.max(initial=0)
        near = _places(guesses, bounds)  # most rows are out by one pass
        return [
            places[row[places] >= reach - beyond * self.rest[places]]
            for row, places, reach, beyond in zip(guesses, near, reached, outside, strict=True)
        ]


def sketch(vectors: Float32[np.ndarray, "n dim"]) -> Sketch | None:
    """Find the few components that hold most of some vectors; None where it takes too many."""
    if not vectors.size:
        return None
    energies, components = np.linalg.eigh(vectors.T @ vectors)  # the smallest first
    held = np.cumsum(energies[::-1]) / max(float(energies.sum()), np.finfo(np.float32).tiny)
    n_kept = int(np.searchsorted(held, ENERGY)) + 1
    if n_kept > MOST * vectors.shape[1]:
        return None
    basis = np.ascontiguousarray(components[:, ::-1][:, :n_kept], dtype=np.float32)
    return Sketch(basis, *_parts(vectors, basis))


def hide(
    scores: Float32[np.ndarray, "query n"], passing: Sequence[Bool[np.ndarray, " n"] | None]
) -> None:
    """Make -inf of the scores of rows that do not pass; None lets all pass."""
    for row, mask in zip(scores, passing, strict=True):
        if mask is not None:
            row[~mask] = -np.inf


def likeliest(scores: Float32[np.ndarray, "query n"], k: int) -> list[Int[np.ndarray, " _"]]:
    """For each row the places of its k largest scores, and of few others.

    Places that hold -inf are left out.
    """
    return _places(scores, _bounds(scores, k))


def least(scores: Float32[np.ndarray, " n"], k: int) -> float:
    """The k-th largest score; -inf where there are fewer."""
    return float(np.partition(scores, -k)[-k]) if k <= len(scores) else -np.inf


def scores_of(
    places: Sequence[Int[np.ndarray, " _"]],
    vectors: Float32[np.ndarray, "n dim"],
    queries: Float32[np.ndarray, "query dim"],
) -> list[Float32[np.ndarray, " _"]]:
    """The scores of some rows for each query.

    Rows are gathered in one place that is used again and again: the system takes longer over
    handing out fresh pages of memory than the rows take to read.
    """
    room = np.empty((max(1, ROOM // vectors[:1].nbytes), vectors.shape[1]), vectors.dtype)
    found = [np.empty(len(some), np.float32) for some in places]
    for query, some, scores in zip(queries, places, found, strict=True):
        if len(some) > FEW_ROWS * len(vectors):
            np.take(vectors @ query, some, out=scores)
            continue
        for start in range(0, len(some), len(room)):
            few = some[start : start + len(room)]
            rows = vectors.take(few, axis=0, out=room[: len(few)], mode="clip")
            np.matmul(rows, query, out=scores[start : start + len(few)])
    return found


def _bounds(scores: Float32[np.ndarray, "query n"], k: int) -> Float32[np.ndarray, " query"]:
    """A bound for each row that its k largest scores reach, and few others.

    The k-th largest of the blocks' maxima is one; a partition of all scores takes ten times as
    long.
    """
    n_queries, n = scores.shape
    n_blocks = n // BLOCK
    if 2 * k < n_blocks:
        # a block is every n_blocks-th score: runs are compared whole, six times as fast
        blocks = scores[:, : n_blocks * BLOCK].reshape(n_queries, BLOCK, n_blocks)
        scores = blocks.max(axis=1)
    if k > scores.shape[1]:
        return np.full(n_queries, -np.inf, np.float32)
    return np.partition(scores, -k, axis=1)[:, -k]


def _places(
    scores: Float32[np.ndarray, "query n"], bounds: Float32[np.ndarray, " query"]
) -> list[Int[np.ndarray, " _"]]:
    """For each row the places of the scores that reach a bound; those of -inf never do.

    All rows are looked at together: numpy lets Python's lock go for every large array, and has to
    wait for it again.
    """
    floor = np.maximum(bounds, np.finfo(np.float32).min)
    flat = np.flatnonzero(scores >= floor[:, None])
    starts = np.arange(len(scores)) * scores.shape[1]
    some = np.split(flat, np.searchsorted(flat, starts[1:]))
    return [places - start for places, start in zip(some, starts, strict=True)]


def _parts(vectors: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = vectors @ basis
    beyond = np.einsum("nd,nd->n", vectors, vectors) - np.einsum("nd,nd->n", parts, parts)
    return parts, np.sqrt(np.maximum(beyond, 0.0))
