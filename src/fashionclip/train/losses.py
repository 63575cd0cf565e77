"""Vectors of pictures and texts → loss, of one process's rows against the whole batch.

A process computes the loss of its own rows only, against the vectors of all of them; the mean
over processes is the loss of the batch. Rows are unit vectors, float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashionclip.train.recipe import Loss

BISECTIONS = 60
LIKE_SHARE = 0.5
"""Pairs are alike that agree in at least this share of the attributes known of both."""


class Temperature(nn.Module):
    """What cosines are multiplied by, and for SigLIP what is added; both are learned."""

    def __init__(self, logit_scale: float, *, has_bias: bool) -> None:
        """Begin with the natural logarithm of the factor."""
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale, dtype=torch.float32))
        self.logit_bias = nn.Parameter(torch.zeros(())) if has_bias else None

    @property
    def factor(self) -> float:
        """What cosines are multiplied by now."""
        return float(self.logit_scale.detach().exp())

    def clamp(self, largest: float) -> None:
        """Keep the factor at or below ``largest``, as CLIP does after each step."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=float(torch.tensor(largest).log()))


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Pictures and texts of a batch as unit vectors: this process's rows, and all rows."""

    pictures: Tensor
    """``(n, dim)``, this process's."""
    texts: Tensor
    all_pictures: Tensor
    """``(N, dim)``, of all processes in their order."""
    all_texts: Tensor
    first: int = 0
    """Number of this process's first row among all."""

    @property
    def targets(self) -> Tensor:
        """For each own row the number of its other half among all rows."""
        return self.first + torch.arange(len(self.pictures), device=self.pictures.device)


@dataclass(frozen=True, slots=True, eq=False)
class Relations:
    """What is known of the pairs beside their vectors, own rows against all."""

    same: Tensor
    """``(n, N)`` bool: of one product or caption; a row's own pair is not in it."""
    alike: Tensor | None
    """``(n, N)`` in 0…1: share of a row's soft target that goes to others; rows sum to 1 or 0.
    None if no attributes are known."""


def relate(
    keys: Tensor, attributes: Tensor, all_keys: Tensor, all_attributes: Tensor, first: int
) -> Relations:
    """Find which pairs are the same, and which are alike.

    Args:
        keys: ``(n, 3)`` hashes of product, caption and title of this process's rows. A caption
            that is another product's title is true of that product too.
        attributes: ``(n, kind)`` hashes of attributes, 0 for unknown.
        all_keys: ``(N, 3)``.
        all_attributes: ``(N, kind)``.
        first: number of the first own row among all.
    """
    product, caption, title = (keys[:, i, None] for i in range(3))
    all_product, all_caption, all_title = (all_keys[None, :, i] for i in range(3))
    same = (product == all_product) | (caption == all_caption)
    same |= (caption == all_title) | (title == all_caption)
    rows = torch.arange(len(keys), device=keys.device)
    same[rows, first + rows] = False
    if not attributes.shape[1]:
        return Relations(same, None)
    known = (attributes[:, None] != 0) & (all_attributes[None] != 0)
    agree = ((attributes[:, None] == all_attributes[None]) & known).sum(-1)
    share = agree / known.sum(-1).clamp(min=1)
    alike = torch.where(share >= LIKE_SHARE, share, 0.0)
    alike[rows, first + rows] = 0.0
    return Relations(same, alike / alike.sum(1, keepdim=True).clamp(min=1e-12))


def contrastive(sides: Sides, temperature: Temperature, relations: Relations, loss: Loss) -> Tensor:
    """The loss of a recipe between pictures and texts, mean over own rows.

    Source: for ``infonce`` Radford et al. 2021, figure 3; for ``siglip`` Zhai et al. 2023,
        algorithm 1. Ours are the pairs that are left out as negatives, and the soft targets.
    """
    scale = temperature.logit_scale.exp()
    by_picture = scale * sides.pictures @ sides.all_texts.T
    left_out = relations.same if loss.negatives == "distinct" else None
    soft = _soft_targets(sides, relations, loss.soft_targets)
    if loss.kind == "siglip":
        bias = temperature.logit_bias
        logits = by_picture if bias is None else by_picture + bias
        wanted = _own(sides) if soft is None else soft
        each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        if left_out is not None:
            each = each.masked_fill(left_out, 0.0)
        return each.sum(1).mean()
    by_text = scale * sides.texts @ sides.all_pictures.T
    both = [_cross_entropy(logits, sides, soft, left_out) for logits in (by_picture, by_text)]
    return (both[0] + both[1]) / 2


def distillation(sides: Sides, scale: Tensor, teacher: Sides, teacher_scale: Tensor) -> Tensor:
    """How far likenesses within the batch are from a teacher's, mean over own rows.

    Kullback-Leibler divergence from the teacher's softmax over the batch to the student's, both
    ways. Teacher and student need not share a dimension.

    Source: Yang et al. 2024, "CLIP-KD", section 3: contrastive relational distillation.
    """
    total = sides.pictures.new_zeros(())
    for mine, theirs in (
        ((sides.pictures, sides.all_texts), (teacher.pictures, teacher.all_texts)),
        ((sides.texts, sides.all_pictures), (teacher.texts, teacher.all_pictures)),
    ):
        student = functional.log_softmax(scale * mine[0] @ mine[1].T, dim=1)
        aim = functional.log_softmax(teacher_scale * theirs[0] @ theirs[1].T, dim=1)
        total = total + functional.kl_div(student, aim, log_target=True, reduction="batchmean")
    return total / 2


def drift(sides: Sides, start: Sides) -> Tensor:
    """How far own vectors have moved from the start's: 1 - cosine, mean over own rows."""
    moved = (sides.pictures * start.pictures).sum(1) + (sides.texts * start.texts).sum(1)
    return 1 - moved.mean() / 2


def fitting_bias(pictures: Tensor, texts: Tensor, scale: float) -> float:
    """The bias at which SigLIP expects as many true pairs in a batch as there are.

    A start that was trained with a softmax has no bias, and a small learning rate would never
    find one.
    """
    logits = (scale * pictures @ texts.T).double()
    low, high = -float(logits.max()) - 50.0, -float(logits.min()) + 50.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_many = torch.sigmoid(logits + middle).sum() > len(pictures)
        low, high = (low, middle) if too_many else (middle, high)
    return (low + high) / 2


def _own(sides: Sides) -> Tensor:
    """``(n, N)``: 1 for each row's own pair."""
    own = sides.pictures.new_zeros(len(sides.pictures), len(sides.all_texts))
    return own.scatter_(1, sides.targets[:, None], 1.0)


def _soft_targets(sides: Sides, relations: Relations, share: float) -> Tensor | None:
    """``(n, N)``: which pairs ought to be near, rows sum to 1; None if only each row's own."""
    if not share or relations.alike is None:
        return None
    own = _own(sides)
    has_like = relations.alike.sum(1, keepdim=True) > 0
    return torch.where(has_like, (1 - share) * own + share * relations.alike, own)


def _cross_entropy(
    logits: Tensor, sides: Sides, soft: Tensor | None, left_out: Tensor | None
) -> Tensor:
    if soft is None:
        if left_out is not None:
            logits = logits.masked_fill(left_out, -torch.inf)
        return functional.cross_entropy(logits, sides.targets)
    if left_out is not None:
        logits = logits.masked_fill(left_out & (soft == 0), -torch.inf)
    logs = functional.log_softmax(logits, dim=1)
    return -torch.where(soft > 0, soft * logs, 0.0).sum(1).mean()
