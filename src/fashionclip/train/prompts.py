"""Zero-shot classification as a loss: an image against prompts of every value of an attribute.

The values come from the recipe's attribute columns. Labels are the columns' own values or, where
there are any, the probabilities of ``data.soft_labels``, such as those of another classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional

from fashionclip.errors import TrainingError
from fashionclip.text.captions import PROMPT_TEMPLATES
from fashionclip.train.data import DataSource
from fashionclip.train.loader import Batch, hash_text
from fashionclip.train.recipe import Recipe

TEMPLATES = PROMPT_TEMPLATES["sentences"]
MAX_ATTRIBUTES = 4
"""Attributes of a step, sampled anew for each, beside those of ``loss.always_prompted``."""


@dataclass(frozen=True, slots=True, eq=False)
class AttributePrompts:
    """The values of one attribute."""

    column: int
    """Index among ``Pair.attributes``."""
    is_always: bool
    """Whether every step has its prompts."""
    values: Sequence[str]
    hashes: Int64[np.ndarray, " value"]
    """Of the values, as a batch has them."""
    log_prior: Float32[np.ndarray, " value"]
    """``loss.logit_adjustment`` of the logarithm of each value's frequency in training."""
    soft: Float32[np.ndarray, "row value"] | None
    """Probabilities by row of the table; rows of 0 have none. None without soft labels."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptTargets:
    """The prompts of one attribute in one step."""

    texts: Tensor
    """``(value, dim)`` unit vectors."""
    labels: Tensor
    """``(n, value)`` probabilities; rows of 0 where the value is unknown."""
    log_prior: Tensor
    """``(value,)``."""


def open_prompts(source: DataSource, rows: Sequence[int], recipe: Recipe) -> list[AttributePrompts]:
    """Collect the attribute values of the training pairs; attributes of one value are left out.

    Raises:
        TrainingError: the soft labels cannot be read, or no attribute has two values.
    """
    if not recipe.loss.prompts:
        return []
    soft = _read_soft_labels(recipe.data.soft_labels)
    strength = np.float32(recipe.loss.logit_adjustment)
    found = []
    for column, name in enumerate(recipe.data.attributes):
        known = [value for row in rows if (value := source[row].attributes[column])]
        values, counts = np.unique(np.array(known, dtype=np.str_), return_counts=True)
        if len(values) < 2:
            continue
        names = values.tolist()
        by_value = [soft[key] for value in names if (key := f"{name}={value}") in soft]
        found.append(
            AttributePrompts(
                column=column,
                is_always=name in recipe.loss.always_prompted,
                values=names,
                hashes=np.array([hash_text(value) for value in names], dtype=np.int64),
                log_prior=strength * np.log(counts / counts.sum()).astype(np.float32),
                soft=np.stack(by_value, axis=1) if len(by_value) == len(names) else None,
            )
        )
    if not found:
        message = f"loss.prompts: none of {list(recipe.data.attributes)} has two values"
        raise TrainingError(message)
    return found


def sample_prompts(
    attributes: Sequence[AttributePrompts], rng: np.random.Generator
) -> tuple[list[AttributePrompts], list[list[str]]]:
    """Some attributes, with a prompt for each of their values; one template per attribute."""
    others = [one for one in attributes if not one.is_always]
    chosen = rng.permutation(len(others))[:MAX_ATTRIBUTES]
    some = [*(one for one in attributes if one.is_always), *(others[i] for i in chosen)]
    templates = rng.integers(len(TEMPLATES), size=len(some))
    texts = [
        [TEMPLATES[template].format(value) for value in one.values]
        for one, template in zip(some, templates, strict=True)
    ]
    return some, texts


def prompt_labels(
    prompts: AttributePrompts, batch: Batch, table_rows: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n value"]:
    """The label of each image of a batch, as probabilities over the values.

    A mixed image has the labels of both its parts, by area. Soft labels replace known values.

    Args:
        prompts: one attribute.
        batch: its attributes and mixing.
        table_rows: row of the table of each pair, from 0.
    """
    own = batch.attributes[:, prompts.column, None] == prompts.hashes
    labels = own.astype(np.float32)
    if prompts.soft is not None:
        soft = prompts.soft[table_rows]
        labels = np.where(
            own.any(1, keepdims=True) & (soft.sum(1, keepdims=True) > 0), soft, labels
        )
    ratio = batch.mix_ratio[:, None]
    mixed: np.ndarray = ratio * labels + (1 - ratio) * labels[batch.mixed_with]
    return mixed


def prompt_loss(images: Tensor, scale: Tensor, targets: Sequence[PromptTargets]) -> Tensor:
    """Cross-entropy over the values of each attribute, in nats, summed over attributes.

    Inputs: unit vectors ``(n, dim)`` of images, the logit scale, and the targets. An image counts
    in the ratio of its label that is known. Logits are adjusted by how common each value is, so
    that the text vectors need not express it, or express a part of it.

    Source: Menon et al. 2021, arXiv 2007.07314, equation 10 (logit adjustment, with tau).
    """
    total = images.new_zeros(())
    for one in targets:
        weight = one.labels.sum(1)
        logits = scale * images @ one.texts.T + one.log_prior
        each = -(one.labels * functional.log_softmax(logits, dim=1)).sum(1)
        total = total + each.sum() / weight.sum().clamp(min=1.0)
    return total


def to_targets(
    prompts: AttributePrompts, texts: Tensor, labels: Float32[np.ndarray, "n value"]
) -> PromptTargets:
    """The targets of one attribute on the device of its text vectors."""
    device = texts.device
    return PromptTargets(
        texts, torch.from_numpy(labels).to(device), torch.from_numpy(prompts.log_prior).to(device)
    )


def _read_soft_labels(path: str) -> dict[str, np.ndarray]:
    if not path:
        return {}
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as exc:
        message = f"data.soft_labels: {path} cannot be read ({str(exc).splitlines()[0]})"
        raise TrainingError(message) from exc
    names = [name for name in table.column_names if "=" in name]
    return {name: np.asarray(table[name], dtype=np.float32) for name in names}
