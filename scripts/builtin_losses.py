"""What the built-in model is told it got wrong: captions, prompts, attributes.

What a teacher sees in the pictures is in ``builtin_teacher.py``.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from builtin_data import FACETS
from torch import Tensor, nn

SOFT_SHARE = {"type": 0.8, "garment": 1.0}
"""Of what the teacher's classifiers say, in the labels of prompts."""
FACET_WEIGHTS = {"type": 1.0, "garment": 1.0, "drawn": 0.7, "colour": 0.6}
OTHER_FACETS = 0.3


def contrast(
    pictures: Tensor,
    words: Tensor,
    scale: Tensor,
    texts: list[str],
    labels: Tensor,
    demands: Tensor,
) -> Tensor:
    """Symmetric cross-entropy; captions that are true of a picture are not its negatives."""
    logits = scale * pictures @ words.T
    true = ((demands[None] == -1) | (demands[None] == labels[:, None])).all(-1)
    plain = [text.casefold() for text in texts]
    number = {text: i for i, text in enumerate(plain)}
    same = torch.tensor([number[text] for text in plain])
    twins = true | (same[:, None] == same[None])
    twins.fill_diagonal_(False)
    logits = logits.masked_fill(twins, -1e4)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def targets(labels: Tensor, soft: dict[str, Tensor], n_values: dict[str, int]) -> dict[str, Tensor]:
    """What each attribute's prompts should score: probabilities, rows of 0 where it is unknown.

    Where the teacher's classifiers have a say, most of the label is theirs: hard labels of few
    pictures are learned by heart.
    """
    wanted = {}
    for facet, n in n_values.items():
        label = labels[:, FACETS.index(facet)]
        known = label >= 0
        wanted[facet] = F.one_hot(label.clamp(min=0), n).float() * known[:, None]
        if facet in soft:
            told = torch.lerp(wanted[facet], soft[facet], SOFT_SHARE[facet])
            wanted[facet] = torch.where(known[:, None], told, wanted[facet])
    return wanted


def prompt_loss(
    prompts: dict[str, Tensor],
    pictures: Tensor,
    scale: Tensor,
    wanted: dict[str, Tensor],
    shares: Mapping[str, Tensor],
) -> Tensor:
    """Cross-entropy over the values of each attribute that was asked about.

    Where ``shares`` tells how common the values are, the logits are adjusted by that (Menon et al.
    2021, arXiv 2007.07314, equation 10): the words need not say it, and other shops sell otherwise.
    """
    total = torch.zeros(())
    for facet, vectors in prompts.items():
        known = wanted[facet].sum(1) > 0.5
        if known.any():
            logits = scale * pictures[known] @ vectors.T
            if facet in shares:
                logits = logits + shares[facet].log()
            total = total + F.cross_entropy(logits, wanted[facet][known])
    return total


def head_loss(heads: nn.ModuleDict, features: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the linear heads over the known attributes."""
    total = torch.zeros(())
    for name, head in heads.items():
        facet = name.removeprefix("of ")
        target = labels[:, FACETS.index(facet)]
        if (target >= 0).any():
            logits = head(features).float()
            loss = F.cross_entropy(logits, target, ignore_index=-1, label_smoothing=0.05)
            total = total + FACET_WEIGHTS.get(facet, OTHER_FACETS) * loss
    return total
