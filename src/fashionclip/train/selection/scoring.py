"""A candidate's answers as figures: loss and retrieval on held-out pairs, F1 on each set."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fashionclip.checkpoint import Checkpoint
from fashionclip.engines import open_engine
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.prompts import DEFAULT_STYLE
from fashionclip.evaluate.retrieval import score_retrieval
from fashionclip.evaluate.scoring import readable_images
from fashionclip.evaluate.tasks import Encoder, Retrieval, ZeroShot
from fashionclip.evaluate.zero_shot import score_zero_shot
from fashionclip.model import FashionCLIP
from fashionclip.text.captions import one_line
from fashionclip.train.selection.suite import RETRIEVAL_FIGURES, Suite

LOSS_BATCH = 256
"""Pairs that are each other's negatives in the validation loss, for every candidate the same."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a candidate came to on development pictures."""

    validation_loss: float
    """Symmetric InfoNCE on the held-out pairs, in nats; lower is better."""
    retrieval: Mapping[str, float]
    """On the held-out pairs, by metric, 0…1."""
    sets: Mapping[str, float]
    """Mean over a set's tasks of weighted F1, 0…1."""
    tasks: Mapping[str, float]
    """Weighted F1 of each task."""
    half_widths: Mapping[str, float]
    """Half of the 95 % interval of the retrieval headline (``held-out``) and of each set."""
    seconds: float
    """How long scoring took."""

    @property
    def in_domain(self) -> float:
        """The retrieval figure that rules go by."""
        return self.retrieval[RETRIEVAL_FIGURES[0]]

    @property
    def out_of_domain(self) -> float:
        """The mean over the sets."""
        return sum(self.sets.values()) / len(self.sets)

    def fields(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"out_of_domain": self.out_of_domain}


def read_scores(fields: Mapping[str, Any]) -> Scores:
    """The scores that ``Scores.fields`` wrote.

    Raises:
        KeyError: one is missing.
    """
    return Scores(**{name: fields[name] for name in Scores.__dataclass_fields__})


def score_checkpoint(
    checkpoint: Checkpoint, suite: Suite, *, device: str = "auto", precision: str = "auto"
) -> Scores:
    """Put a suite's questions to a checkpoint.

    Every candidate gets the same prompts (``ensemble``), so that none is lucky in its wording.

    Raises:
        EvaluationError: the model gives NaN, or no picture of a set can be read.
        EngineError: no such device or precision here.
    """
    begun = time.perf_counter()
    engine = open_engine(checkpoint, device=device, precision=precision)
    encoder = CachedEncoder(FashionCLIP(checkpoint, engine=engine), None)
    found = score_retrieval(suite.pairs, encoder)
    if not found.figures:
        message = f"{suite.pairs.name}: no picture of the held-out pairs can be read"
        raise EvaluationError(message)
    headline = found.figures[RETRIEVAL_FIGURES[0]]
    half_widths = {"held-out": (headline.high - headline.low) / 2}
    tasks: dict[str, float] = {}
    sets: dict[str, float] = {}
    for name, asked in suite.sets.items():
        values, widths = zip(*(_zero_shot(task, encoder) for task in asked), strict=True)
        tasks |= {task.name: value for task, value in zip(asked, values, strict=True)}
        sets[name] = float(np.mean(values))
        # tasks of a set share pictures, so their errors are not taken to cancel out
        half_widths[name] = float(np.mean(widths))
    return Scores(
        validation_loss=_loss_of(suite.pairs, encoder),
        retrieval={name: figure.value for name, figure in found.figures.items()},
        sets=sets,
        tasks=tasks,
        half_widths=half_widths,
        seconds=time.perf_counter() - begun,
    )


def _zero_shot(task: ZeroShot, encoder: Encoder) -> tuple[float, float]:
    result = score_zero_shot(task, encoder, prompts=DEFAULT_STYLE)
    if result.headline not in result.figures:
        message = f"{task.name}: {result.warnings[-1]}"
        raise EvaluationError(message)
    figure = result.figures[result.headline]
    return figure.value, (figure.high - figure.low) / 2


def _loss_of(task: Retrieval, encoder: Encoder) -> float:
    """The loss over batches of pairs, drawn once and for all."""
    readable = readable_images(task.documents, encoder)
    captions = [one_line(picture.caption) for picture in readable.images]
    words = encoder.encode_text(captions)
    rows = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    groups = np.array([rows[caption] for caption in captions])
    order = np.random.default_rng(0).permutation(len(captions))
    n_batches = max(1, round(len(order) / LOSS_BATCH))
    batches = np.array_split(order, n_batches)
    losses = [
        contrastive_loss(readable.vectors[some], words[some], groups[some], encoder.logit_scale)
        for some in batches
    ]
    return float(np.average(losses, weights=[len(some) for some in batches]))


def contrastive_loss(
    pictures: Float[np.ndarray, "n dim"],
    texts: Float[np.ndarray, "n dim"],
    groups: Int[np.ndarray, " n"],
    logit_scale: float,
) -> float:
    """Symmetric InfoNCE of a batch of pairs, in nats.

    Args:
        pictures: unit vectors.
        texts: unit vectors; row i belongs to picture i.
        groups: pairs with the same number are not each other's negatives.
        logit_scale: what cosines are multiplied by.

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3; without false negatives.
    """
    logits = logit_scale * (pictures.astype(np.float64) @ texts.astype(np.float64).T)
    twins = groups[:, None] == groups[None]
    np.fill_diagonal(twins, False)
    logits[twins] = -np.inf
    right = np.diag(logits)
    by_picture = _log_sum_exp(logits, 1) - right
    by_text = _log_sum_exp(logits, 0) - right
    return float((by_picture.mean() + by_text.mean()) / 2)


def _log_sum_exp(logits: np.ndarray, axis: int) -> np.ndarray:
    top = logits.max(axis=axis, keepdims=True)
    found: np.ndarray = np.log(np.exp(logits - top).sum(axis=axis)) + top.squeeze(axis)
    return found
