"""Fewer numbers a vector, by which most products are ruled out before they are looked at whole.

A lone query against 100,000 vectors reads every byte of them, and waits for memory; many queries
wait for the processor. CLIP's vectors of one catalogue lie close to a few directions, so their
principal components tell, for a quarter of the bytes and of the work, how large each score can be
at most; only products that can still be among the best are scored whole. Nothing is missed: the
bound holds for every basis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int

FEWEST_ROWS = 20_000  # below, all vectors are read within 2 ms
ENERGY = 0.93
"""Part of the vectors' squared length that the components hold; less leaves too many products."""
MOST = 0.5  # of the dimensions; with more of them the vectors themselves are as quickly read
SLACK = 1e-4  # of a score: more than float32 rounds off
GATHERED = 100_000  # bytes of rows that are gathered at once: less than malloc asks the system for
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
    ) -> Iterator[Int[np.ndarray, " some"]]:
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
        outside = np.linalg.norm(queries - inside @ self.basis.T, axis=1).tolist()
        guesses = inside @ self.parts.T
        most_rest = self.rest.max(initial=0.0)  # rules most rows out in one pass
        for query, k, scores, beyond, mask in zip(
            queries, ks, guesses, outside, passing, strict=True
        ):
            n_passing = len(scores) if mask is None else np.count_nonzero(mask)
            if n_passing <= k:
                yield np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
                continue
            if mask is not None:
                scores[~mask] = -np.inf
            likely = largest(scores, k)
            reached = np.partition(vectors[likely] @ query, -k)[-k] - SLACK
            near = np.flatnonzero(scores >= reached - beyond * most_rest)
            yield near[scores[near] >= reached - beyond * self.rest[near]]


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


def largest(scores: Float32[np.ndarray, " n"], k: int) -> Int[np.ndarray, " some"]:
    """The places of the k largest scores, and of all that equal the last of them.

    The k-th largest of the blocks' maxima is a bound that at least k scores reach, and few do;
    a partition of all scores takes ten times as long.
    """
    n_blocks = len(scores) // BLOCK
    if k >= len(scores):
        return np.arange(len(scores))
    if 2 * k < n_blocks:
        # a block is every n_blocks-th score: rows are compared whole, six times as fast
        maxima = scores[: n_blocks * BLOCK].reshape(BLOCK, n_blocks).max(axis=0)
        candidates = np.flatnonzero(scores >= np.partition(maxima, -k)[-k])
    else:
        candidates = np.arange(len(scores))
    chosen = scores[candidates]
    return np.asarray(candidates[chosen >= np.partition(chosen, -k)[-k]])


def scores_of(
    places: Int[np.ndarray, " some"],
    vectors: Float32[np.ndarray, "n dim"],
    query: Float32[np.ndarray, " dim"],
) -> Float32[np.ndarray, " some"]:
    """The scores of some rows, gathered a few at a time.

    All at once they would lie in memory fresh from the system, which takes longer over handing out
    its pages than the rows take to read.
    """
    scores = np.empty(len(places), dtype=np.float32)
    step = max(1, GATHERED // vectors[:1].nbytes)
    for start in range(0, len(places), step):
        some = slice(start, start + step)
        scores[some] = vectors[places[some]] @ query
    return scores


def _parts(vectors: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = vectors @ basis
    beyond = np.einsum("nd,nd->n", vectors, vectors) - np.einsum("nd,nd->n", parts, parts)
    return parts, np.sqrt(np.maximum(beyond, 0.0))
