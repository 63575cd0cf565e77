"""Candidates of a selection: checkpoints, their average, and interpolations with the start.

A candidate is a weighted sum of checkpoints with the same shapes. Sums are computed from the files,
one tensor at a time, so that memory is that of a tensor.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fashionclip.checkpoint import Checkpoint, CLIPConfig, save_checkpoint
from fashionclip.errors import CheckpointError

Kind = Literal["start", "checkpoint", "average", "interpolation"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A weighted sum of checkpoints; the coefficients sum to 1."""

    name: str
    """``start``, ``step-000200``, ``average-of-3``, ``0.4 of step-000200``."""
    kind: Kind
    step: int
    """Step of its last checkpoint; 0 for the start."""
    parts: tuple[tuple[Checkpoint, float], ...]

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the fingerprints and coefficients of its parts."""
        words = [f"{part.fingerprint} {weight!r}" for part, weight in self.parts]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def start_of(checkpoint: Checkpoint) -> Candidate:
    """The untouched start as a candidate."""
    return Candidate("start", "start", 0, ((checkpoint, 1.0),))


def checkpoint_at(step: int, checkpoint: Checkpoint) -> Candidate:
    """A checkpoint of the run as a candidate."""
    return Candidate(step_name(step), "checkpoint", step, ((checkpoint, 1.0),))


def step_name(step: int) -> str:
    """Name of a step's folder: ``step-000123``."""
    return f"step-{step:06d}"


def average_of(candidates: Sequence[Candidate]) -> Candidate:
    """The mean of the weights of several checkpoints.

    Source: Izmailov et al. 2018, arXiv 1803.05407 (stochastic weight averaging).
    """
    share = 1 / len(candidates)
    parts = tuple((part, share * weight) for c in candidates for part, weight in c.parts)
    step = max(candidate.step for candidate in candidates)
    return Candidate(f"average-of-{len(candidates)}", "average", step, parts)


def interpolation(start: Candidate, tuned: Candidate, alpha: float) -> Candidate:
    """``(1 - alpha) * start + alpha * tuned``, weight by weight.

    Args:
        start: what training began with.
        tuned: a checkpoint or an average.
        alpha: coefficient of the tuned weights, above 0 and below 1.

    Source: Wortsman et al. 2022, arXiv 2109.01903 (WiSE-FT).
    """
    parts = [(part, (1 - alpha) * weight) for part, weight in start.parts]
    parts += [(part, alpha * weight) for part, weight in tuned.parts]
    return Candidate(f"{alpha:g} of {tuned.name}", "interpolation", tuned.step, tuple(parts))


def write_candidate(candidate: Candidate, folder: Path) -> None:
    """Write a candidate as a transformers folder, whole or not at all.

    Tokenizer, preprocessing and activation are those of the last part, which is the tuned one. The
    sum is computed in float32; a tensor is stored as float16 if every part stores it so.

    Raises:
        CheckpointError: the parts are of different models, or the folder cannot be written.
    """
    (last, weight), *others = reversed(candidate.parts)
    if not others:
        save_checkpoint(last, folder)
        return
    for other, _ in others:
        _check_alike(last, other)
    tensors = last.weights()
    every_part = [part.weights() for part, _ in candidate.parts]
    halves = {name for name in tensors if all(of.dtype(name) == "F16" for of in every_part)}
    layout = {n: (tensors.shape(n), "F16" if n in halves else "F32") for n in tensors}

    def mixed(name: str) -> np.ndarray:
        total = np.array(tensors[name], np.float32)
        total *= weight
        for other, share in others:
            total += share * np.array(other.weights()[name], np.float32).reshape(total.shape)
        return total

    save_checkpoint(last, folder, weights=(layout, mixed))


def _check_alike(one: Checkpoint, other: Checkpoint) -> None:
    """Refuse to mix checkpoints of different models.

    Raises:
        CheckpointError: they differ in sizes, tokenizer or preprocessing.
    """
    is_alike = (
        _sizes(one.config) == _sizes(other.config)
        and one.tokenizer.rules.to_str() == other.tokenizer.rules.to_str()
        and one.preprocess == other.preprocess
    )
    if not is_alike:
        message = (
            f"{one.folder} and {other.folder} differ in sizes, tokenizer or preprocessing, so they "
            "cannot be mixed; take checkpoints of one run"
        )
        raise CheckpointError(message)


def _sizes(config: CLIPConfig) -> CLIPConfig:
    """The configuration without what tuning may change: temperature, activation, prefixes."""
    vision = replace(config.vision, activation="gelu")
    text = replace(config.text, activation="gelu")
    return replace(config, vision=vision, text=text, logit_scale=0.0, prefix_dims=())
