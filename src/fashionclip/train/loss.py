"""Loss terms: InfoNCE, SigLIP, distillation and others; temperature, duplicates in a batch.

Each process computes the loss of its own rows against the vectors of all processes; the mean over
the processes is the loss of the batch. ``LOSS_TERMS`` is the table of terms. A term is a function
of the ``Features`` of a batch and of its ``Targets``; to add one, write the function, add it to
the table and give it a weight in ``term_weights``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashionclip.train.distributed import SINGLE_PROCESS, ProcessGroup, all_gather
from fashionclip.train.loader import Batch
from fashionclip.train.prompts import PromptTargets, prompt_loss
from fashionclip.train.recipe import LossConfig

N_BISECTIONS = 60
MIN_AGREEMENT = 0.5
"""Pairs are alike if they agree in at least this ratio of the attributes known of both."""


class Temperature(nn.Module):
    """The learned scale of the logits and, for SigLIP, their learned bias."""

    def __init__(self, logit_scale: float, *, has_bias: bool) -> None:
        """Start from the natural logarithm of the scale, as checkpoints store it."""
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale, dtype=torch.float32))
        self.logit_bias = nn.Parameter(torch.zeros(())) if has_bias else None

    @property
    def scale(self) -> float:
        """The factor of the cosines."""
        return float(self.logit_scale.detach().exp())

    def clamp(self, max_scale: float) -> None:
        """Keep the scale at or below ``max_scale``, as CLIP does after each step."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=float(torch.tensor(max_scale).log()))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The vectors of a batch: those of this process, and those of all processes."""

    images: Tensor
    """``(n, dim)``, unit length: this process's rows."""
    texts: Tensor
    """``(n, dim)``, unit length; row i is the text of image i."""
    all_images: Tensor
    """``(N, dim)``: the rows of all processes, by rank."""
    all_texts: Tensor
    """``(N, dim)``."""
    scale: Tensor
    """Scalar: logits are ``scale * cosine + bias``."""
    bias: Tensor | None = None
    first: int = 0
    """Index of this process's first row among all."""

    def prefix(self, length: int) -> "Features":
        """The first numbers of every vector, scaled to unit length."""

        def cut(side: Tensor) -> Tensor:
            return functional.normalize(side[:, :length], dim=1)

        return replace(
            self,
            images=cut(self.images),
            texts=cut(self.texts),
            all_images=cut(self.all_images),
            all_texts=cut(self.all_texts),
        )

    @property
    def labels(self) -> Tensor:
        """``(n,)``: for each own row the index of its counterpart among all rows."""
        return self.first + torch.arange(len(self.images), device=self.images.device)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the loss knows about a batch apart from its vectors: own rows against all rows."""

    excluded: Tensor | None = None
    """``(n, N)`` bool: pairs that are not used as negatives; None for none."""
    soft: Tensor | None = None
    """``(n, N)``: target probabilities, rows sum to 1; None if each row's own pair has all."""
    teachers: Mapping[str, Features] = field(default_factory=dict)
    """Vectors of the same pairs by frozen models, by the term that uses them."""
    soft_texts: Tensor | None = None
    """``(n, N)``: as ``soft``, of texts against images, where the two differ."""
    prompts: Sequence[PromptTargets] = ()
    """Of the term ``prompts``."""
    patches: Tensor | None = None
    """Scalar: the patch head's loss, of the term ``patches``."""
    changed_rows: Tensor | None = None
    """``(m,)``: own rows that have a changed caption, of the term ``hard_negatives``."""
    changed_texts: Tensor | None = None
    """``(m, dim)`` unit vectors of these captions."""


LossTerm = Callable[[Features, Targets], Tensor]
"""A scalar, the mean over own rows, with a graph to the vectors."""


def gather_features(
    images: Tensor, texts: Tensor, temperature: Temperature, group: ProcessGroup
) -> Features:
    """Put this process's unit vectors, ``(n, dim)`` each, beside those of all processes."""
    dim = images.shape[1]
    both = all_gather(torch.cat([images, texts], dim=1))
    return Features(
        images=images,
        texts=texts,
        all_images=both[:, :dim],
        all_texts=both[:, dim:],
        scale=temperature.logit_scale.exp(),
        bias=temperature.logit_bias,
        first=group.rank * len(images),
    )


def make_targets(
    batch: Batch,
    config: LossConfig,
    *,
    device: torch.device,
    group: ProcessGroup = SINGLE_PROCESS,
    teachers: Mapping[str, Features] | None = None,
) -> Targets:
    """Find the duplicates and the soft targets of a batch, over all processes.

    Args:
        batch: this process's part.
        config: which negatives count, and the ratio of soft targets.
        device: where the tensors are put.
        group: the processes.
        teachers: vectors of frozen models.
    """
    keys = torch.from_numpy(batch.keys).to(device)
    attributes = torch.from_numpy(batch.attributes).to(device)
    first = group.rank * len(keys)
    all_keys, all_attributes = all_gather(keys), all_gather(attributes)
    excluded = soft = None
    if config.negatives == "distinct":
        excluded = find_duplicates(keys, all_keys, first=first)
    if config.soft_targets and attributes.shape[1]:
        ratio = config.soft_targets
        soft = soft_targets(attributes, all_attributes, first=first, ratio=ratio)
    soft_texts = None
    if (batch.mix_ratio < 1).any():
        soft, soft_texts = mixed_targets(batch, soft, first=first, n_all=len(all_keys))
    return Targets(excluded, soft, teachers or {}, soft_texts)


def mixed_targets(
    batch: Batch, soft: Tensor | None, *, first: int, n_all: int
) -> tuple[Tensor, Tensor]:
    """Targets where an image is of two pairs: by area for its texts, and the reverse for texts.

    Args:
        batch: which images are mixed with which.
        soft: ``(n, N)`` targets of the images before; None if each row's own pair has all.
        first: index of the first own row among all.
        n_all: N.

    Returns:
        ``(n, N)`` float32 each, of images and of texts; rows sum to 1.
    """
    n = len(batch.rows)
    device = None if soft is None else soft.device
    own = torch.arange(n, device=device)
    ratio = torch.from_numpy(batch.mix_ratio).to(device)
    other = torch.from_numpy(batch.mixed_with).to(device)
    if soft is None:
        soft = torch.zeros(n, n_all, device=device)
        soft[own, first + own] = 1.0
    parts = torch.diag(ratio)
    parts[own, other] += 1 - ratio
    by_text = parts.T / parts.sum(0)[:, None].clamp(min=1e-12)
    return parts @ soft, by_text @ soft


def find_duplicates(keys: Tensor, all_keys: Tensor, *, first: int) -> Tensor:
    """Find pairs of the same product or caption, which must not be negatives of each other.

    A caption that is another product's title is also true of that product.

    Args:
        keys: ``(n, 3)`` hashes of product, caption and title of this process's rows.
        all_keys: ``(N, 3)``.
        first: index of the first own row among all.

    Returns:
        ``(n, N)`` bool; False for each row's own pair.
    """
    product, caption, title = (keys[:, i, None] for i in range(3))
    all_product, all_caption, all_title = (all_keys[None, :, i] for i in range(3))
    is_same = (product == all_product) | (caption == all_caption)
    is_same |= (caption == all_title) | (title == all_caption)
    rows = torch.arange(len(keys), device=keys.device)
    is_same[rows, first + rows] = False
    return is_same


def soft_targets(attributes: Tensor, all_attributes: Tensor, *, first: int, ratio: float) -> Tensor:
    """Share each row's target with the pairs whose attributes are alike.

    Args:
        attributes: ``(n, attribute)`` hashes, 0 for unknown.
        all_attributes: ``(N, attribute)``.
        first: index of the first own row among all.
        ratio: part of the target that like pairs share, in proportion to their agreement.

    Returns:
        ``(n, N)`` float32; rows sum to 1. A row without like pairs keeps its whole target.
    """
    is_known = (attributes[:, None] != 0) & (all_attributes[None] != 0)
    n_agree = ((attributes[:, None] == all_attributes[None]) & is_known).sum(-1)
    agreement = n_agree / is_known.sum(-1).clamp(min=1)
    alike = torch.where(agreement >= MIN_AGREEMENT, agreement, 0.0)
    rows = torch.arange(len(attributes), device=attributes.device)
    alike[rows, first + rows] = 0.0
    total = alike.sum(1, keepdim=True)
    own = torch.zeros_like(alike)
    own[rows, first + rows] = 1.0
    return torch.where(total > 0, (1 - ratio) * own + ratio * alike / total.clamp(min=1e-12), own)


def info_nce(features: Features, targets: Targets) -> Tensor:
    """Symmetric cross-entropy over the batch (InfoNCE), in nats.

    Inputs: unit vectors ``(n, dim)`` of own rows and ``(N, dim)`` of all rows, the scale; from the
    targets, excluded negatives and soft targets. Requires that row i of images and texts belong
    together. An excluded pair takes no part in a row's softmax, unless it has a soft target.

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3. The excluded negatives and the soft
        targets are ours.
    """
    by_image = features.scale * features.images @ features.all_texts.T
    by_text = features.scale * features.texts @ features.all_images.T
    soft_texts = targets.soft if targets.soft_texts is None else targets.soft_texts
    loss = _cross_entropy(by_image, features, targets.excluded, targets.soft)
    return (loss + _cross_entropy(by_text, features, targets.excluded, soft_texts)) / 2


def siglip(features: Features, targets: Targets) -> Tensor:
    """Sigmoid loss: every image with every text is a binary decision; sum per row, mean over rows.

    Inputs and requirements are those of ``info_nce``, and the bias. An excluded pair counts
    nothing; a soft target is the probability of a pair.

    Source: Zhai et al. 2023, arXiv 2303.15343, algorithm 1.
    """
    logits = features.scale * features.images @ features.all_texts.T
    if features.bias is not None:
        logits = logits + features.bias
    wanted = targets.soft
    if wanted is None:
        wanted = torch.zeros_like(logits).scatter_(1, features.labels[:, None], 1.0)
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    if targets.excluded is not None:
        each = each.masked_fill(targets.excluded, 0.0)
    return each.sum(1).mean()


def distillation(features: Features, targets: Targets) -> Tensor:
    """Kullback-Leibler divergence of the similarities within the batch from those of a teacher.

    Inputs: student and teacher (``targets.teachers["distill"]``), each with its own scale. Student
    and teacher need not have the same dimension. The divergence is taken from the teacher's softmax
    over the batch to the student's, image to text and text to image.

    Source: Yang et al. 2024, arXiv 2307.12732 (CLIP-KD), section 3, contrastive relational
        distillation.
    """
    teacher = targets.teachers["distill"]
    total = features.images.new_zeros(())
    for student_logits, teacher_logits in (
        (features.images @ features.all_texts.T, teacher.images @ teacher.all_texts.T),
        (features.texts @ features.all_images.T, teacher.texts @ teacher.all_images.T),
    ):
        student = functional.log_softmax(features.scale * student_logits, dim=1)
        wanted = functional.log_softmax(teacher.scale * teacher_logits, dim=1)
        total = total + functional.kl_div(student, wanted, log_target=True, reduction="batchmean")
    return total / 2


def anchor(features: Features, targets: Targets) -> Tensor:
    """Distance from the start's vectors, ``1 - cosine``, mean over images and texts; 0…2.

    Inputs: own rows, and those of the untouched start (``targets.teachers["anchor"]``), which must
    have the same dimension. Against forgetting: vectors may not move far from the start's.
    """
    start = targets.teachers["anchor"]
    cosine = (features.images * start.images).sum(1) + (features.texts * start.texts).sum(1)
    return 1 - cosine.mean() / 2


def prompts(features: Features, targets: Targets) -> Tensor:
    """Zero-shot classification by attributes; see ``prompt_loss``."""
    return prompt_loss(features.images, features.scale, targets.prompts)


def hard_negatives(features: Features, targets: Targets) -> Tensor:
    """Each image's own caption against the same with one attribute's value changed, in nats.

    Inputs: unit vectors ``(n, dim)`` of own rows, the scale, and the changed captions of some rows.
    The loss is the cross-entropy of the choice between the two, mean over these rows; 0 for none.
    """
    rows, changed = targets.changed_rows, targets.changed_texts
    if rows is None or changed is None:
        return features.images.new_zeros(())
    images = features.images[rows]
    gain = (images * (features.texts[rows] - changed)).sum(1)
    return functional.softplus(-features.scale * gain).mean()


def patches(features: Features, targets: Targets) -> Tensor:
    """Regression of the patches' targets; see ``PatchHead``."""
    assert targets.patches is not None
    return targets.patches


LOSS_TERMS: Mapping[str, LossTerm] = MappingProxyType(
    {
        "infonce": info_nce,
        "siglip": siglip,
        "distill": distillation,
        "anchor": anchor,
        "prompts": prompts,
        "hard_negatives": hard_negatives,
        "patches": patches,
    }
)
"""Every term by its name in a recipe."""
PREFIX_TERMS = ("infonce", "siglip")
"""Those that prefixes of the vectors take part in."""


def term_weights(config: LossConfig) -> dict[str, float]:
    """The terms of a recipe's loss, with their weights; terms of weight 0 are not computed."""
    others = ("distill", "anchor", "prompts", "hard_negatives", "patches")
    weights = {config.kind: 1.0, **{name: getattr(config, name) for name in others}}
    return {name: weight for name, weight in weights.items() if weight}


def total_loss(
    features: Features,
    targets: Targets,
    weights: Mapping[str, float],
    *,
    prefixes: Sequence[int] = (),
) -> Tensor:
    """The weighted sum of the terms, mean over own rows.

    Args:
        features: vectors of the batch.
        targets: what else is known of it.
        weights: of the terms, as ``term_weights`` gives them.
        prefixes: lengths; InfoNCE and SigLIP are then averaged over the whole vectors and those of
            their first numbers, with one temperature.

    Source: Kusupati et al. 2022, arXiv 2205.13147 (Matryoshka), equation 1, with equal weights.
    """
    total = features.images.new_zeros(())
    views = [features, *(features.prefix(length) for length in prefixes)]
    for name, weight in weights.items():
        compared = views if name in PREFIX_TERMS else views[:1]
        values = torch.stack([LOSS_TERMS[name](view, targets) for view in compared])
        total = total + weight * values.mean()
    return total


def fit_bias(images: Tensor, texts: Tensor, scale: float) -> float:
    """The bias at which SigLIP expects as many matching pairs in a batch as there are.

    A start that was trained with a softmax has no bias, and a small learning rate takes long to
    find one.

    Args:
        images: ``(N, dim)`` unit vectors.
        texts: ``(N, dim)`` unit vectors.
        scale: factor of the cosines.
    """
    logits = (scale * images @ texts.T).double()
    low, high = -float(logits.max()) - 50.0, -float(logits.min()) + 50.0
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        too_many = torch.sigmoid(logits + middle).sum() > len(images)
        low, high = (low, middle) if too_many else (middle, high)
    return (low + high) / 2


def _cross_entropy(
    logits: Tensor, features: Features, excluded: Tensor | None, soft: Tensor | None
) -> Tensor:
    if soft is None:
        if excluded is not None:
            logits = logits.masked_fill(excluded, -torch.inf)
        return functional.cross_entropy(logits, features.labels)
    if excluded is not None:
        logits = logits.masked_fill(excluded & (soft == 0), -torch.inf)
    logs = functional.log_softmax(logits, dim=1)
    return -torch.where(soft > 0, soft * logs, 0.0).sum(1).mean()
