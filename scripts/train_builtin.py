"""Train the built-in model: a small CLIP, from nothing or from an earlier export.

    python scripts/train_builtin.py --kagl DIR --clothing DIR --into OUT --minutes 60
    python scripts/train_builtin.py ... --start OUT/checkpoint     # go on from an export

Four losses share every batch: the symmetric contrastive loss between pictures and captions,
classification by prompts (each attribute's values, written out and encoded, compete for the
picture: what zero-shot tags will do), what a teacher sees in the picture, and classification of the
known attributes by linear heads (it gets a model moving that starts from nothing, and fades). The
moving average of the weights is exported every ten minutes in the format that the package ships.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from builtin_captions import Captions
from builtin_data import (
    FACETS,
    KINDS,
    Item,
    draw_pictures,
    drawn_items,
    read_clothing,
    read_kagl,
    read_pixels,
    scenes_of,
    views_of,
)
from builtin_losses import contrast, head_loss, prompt_loss, targets
from builtin_model import WIDTH, export, new_model, open_model, read, see
from builtin_pictures import STORED_PX, Pixels, augment, mix
from builtin_teacher import Pupil, read_maps, soft_labels
from torch import Tensor, nn
from transformers import CLIPModel

from fashionclip.engines.openvino import precisions_here
from fashionclip.evaluate.leakage import (
    TrainingData,
    digest_training_data,
    write_training_data,
)
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.decode import Preprocess, preprocess
from fashionclip.text.captions import build_caption
from fashionclip.text.tokenizer import Tokenizer

CLEAN_SHARE = 0.15  # of the time, at the end: every patch, hardly any augmentation
WORDS_REST = 0.5  # of the time, at the start of a run from an export: only the eyes learn
SCALE_SPEED = 10  # the temperature's learning rate, next to the other weights'
LARGEST_SCALE = 60.0
EXPORT_SECONDS = 600


@dataclass(frozen=True)
class Lessons:
    """What is learned from: rows of all arrays are the same items."""

    captions: Captions
    pixels: Pixels
    products: Tensor
    """Where each product lies, as ``Pixels.products`` says."""
    rows: np.ndarray
    """Training items; some more than once, for their share of the batches."""
    maps: np.ndarray | None
    """The teacher's; None without one."""
    soft: Mapping[str, Tensor]
    """What the teacher's classifiers say, of some attributes."""
    shares: Mapping[str, Tensor]
    """How common each kind of article is among the rows."""


@dataclass(frozen=True)
class Student:
    """What learns: the model, and what is thrown away when it has."""

    model: CLIPModel
    tokenizer: Tokenizer
    heads: nn.ModuleDict
    pupil: Pupil


def main() -> None:
    """Read the arguments, train, export."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kagl", type=Path, required=True, help="styles.csv and images/")
    parser.add_argument("--clothing", type=Path, required=True, help="labels.csv and images/")
    parser.add_argument("--into", type=Path, required=True, help="for pixels, log and checkpoint")
    parser.add_argument("--start", type=Path, help="an earlier export to go on from")
    parser.add_argument("--keep", type=float, default=0.0, help="share of START in the export")
    parser.add_argument("--words-only", action="store_true", help="START's eyes stay as they are")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--drawn", type=int, default=1500, help="drawn products to train on")
    parser.add_argument("--views", type=int, default=5, help="windows of each photograph")
    parser.add_argument("--scenes", type=int, default=2, help="of each garment, on photographs")
    parser.add_argument("--sets", type=int, default=2, help="of windows and scenes, drawn anew")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--teacher", type=float, default=2.0, help="weight of its loss; 0 is none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    torch.manual_seed(args.seed)
    args.into.mkdir(parents=True, exist_ok=True)
    lessons = prepare(args)
    model, tokenizer = open_model(args.start) if args.start else new_model(lessons.captions)
    helped = {} if args.start else {f: len(lessons.captions.values[f]) for f in FACETS}
    heads = {f"of {facet}": nn.Linear(WIDTH, max(1, n)) for facet, n in helped.items()}
    teach(Student(model, tokenizer, nn.ModuleDict(heads), Pupil(WIDTH)), lessons, args)


def prepare(args: argparse.Namespace) -> Lessons:
    """Read, draw, cut out and show to the teacher; what took long lies in ``--into`` afterwards."""
    pre = Preprocess(STORED_PX, "pad")
    kagl, clothing = read_kagl(args.kagl), read_clothing(args.clothing)
    drawn, pictures = drawn_items(args.drawn), draw_pictures(args.drawn)
    sets = range(args.sets)
    views = [v for seed in sets for v in views_of(clothing, args.views, seed=seed)]
    scenes = [s for seed in sets for s in scenes_of(kagl, clothing, args.scenes, seed=seed)]
    items = [*kagl, *clothing, *drawn, *views, *scenes]
    pixels = Pixels(
        [
            read_pixels(kagl, args.into / "kagl.npy", pre),
            read_pixels(clothing, args.into / "clothing.npy", pre),
            np.stack([preprocess(picture, pre) for picture in pictures]),
            *([read_pixels(views, args.into / "views.npy", pre)] if views else []),
            *([read_pixels(scenes, args.into / "scenes.npy", pre)] if scenes else []),
        ]
    )
    captions = Captions(items, args.seed)
    train = np.flatnonzero([not item.is_test for item in items])
    write_training_data(what_it_saw([*kagl, *clothing], args.drawn), args.into)
    print(f"{len(train)} of {len(items)} items", flush=True)
    maps, soft = None, {}
    if args.teacher:
        seen = [*kagl, *clothing, *pictures, *views, *scenes]
        maps = read_maps(seen, train, args.into / "teacher.npy")
        soft = what_it_says(maps, captions, items, train)
    plain = train[train < len(kagl) + len(clothing) + len(drawn)]
    rows = np.concatenate([train, *[plain] * (args.sets - 1)])  # pages keep their share of a batch
    shares = {kind: torch.tensor(captions.shares(kind, rows)).float() for kind in KINDS}
    return Lessons(captions, pixels, pixels.products(), rows, maps, soft, shares)


def what_it_says(
    maps: np.ndarray, captions: Captions, items: Sequence[Item], train: np.ndarray
) -> dict[str, Tensor]:
    """Soft labels of articles and garments; pictures of one file are never told of each other."""
    groups = np.array([str(item.picture) for item in items])
    soft = {}
    for facet in ("type", "garment"):
        labels = np.full(len(items), -1)
        labels[train] = captions.labels[train, FACETS.index(facet)]
        soft[facet] = torch.as_tensor(
            soft_labels(maps, labels, groups, len(captions.values[facet]))
        )
    return soft


def what_it_saw(items: list[Item], n_drawn: int) -> TrainingData:
    """Digest the training pictures and texts, so that an evaluation finds them again."""
    seen = [item for item in items if not item.is_test]
    samples = (
        (
            ImageRef(str(i), item.picture),
            [item.title, build_caption(item.highlights, item.title), *item.sentences],
        )
        for i, item in enumerate(seen)
    )
    description = (
        f"Fashion Product Images and clothing photographs, {len(seen):,} pictures (all but those "
        f"of the held-out brands and senders), and {n_drawn:,} drawn products"
    )
    return digest_training_data(samples, description=description)


def teach(student: Student, lessons: Lessons, args: argparse.Namespace) -> None:
    """Run the clock down: learning rate, augmentation and the heads' weight follow it."""
    rng, model = np.random.default_rng(args.seed), student.model
    parts = nn.ModuleList([model, student.heads, student.pupil])
    # a processor without bfloat16 imitates it, ten times as slowly as it computes in float32
    device = torch.get_default_device().type
    has_bfloat16 = device == "cuda" or "bfloat16" in precisions_here()
    optimizers = build_optimizers(model, parts, args.rate)
    start = {k: v.detach().clone() for k, v in model.state_dict().items()}
    average = {k: v.clone() for k, v in start.items()}
    folder = args.into / "checkpoint"
    begin, exported, step, means = time.time(), time.time(), 0, {}
    for rows in endless_batches(lessons.rows, args.batch, rng):
        passed = (time.time() - begin) / 60 / args.minutes
        if passed >= 1:
            break
        rate = args.rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * passed) + 0.01)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group["speed"]
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16):
            losses = losses_of(
                student,
                lessons,
                rows,
                rng,
                clean=args.words_only or passed > 1 - CLEAN_SHARE,
                eyes_learn=not args.words_only,
                words_learn=args.words_only or not args.start or passed > WORDS_REST,
            )
        loss = losses["contrast"] + 0.5 * losses["prompts"]
        loss = loss + max(0.15, 1 - 1.2 * passed) * losses["heads"]
        loss = loss + args.teacher * losses.get("teacher", 0.0)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        with nullcontext() if has_bfloat16 else patch.object(Tensor, "bfloat16", Tensor.float):
            for optimizer in optimizers:  # Muon computes in bfloat16 otherwise
                optimizer.step()
        step += 1
        follow(average, model, decay=min(0.993, step / (step + 10)))
        for name, value in losses.items():
            means[name] = 0.95 * means.get(name, value.item()) + 0.05 * value.item()
        if step % 20 == 0 or step in {2, 5, 10}:
            speed, minutes = step * args.batch / (time.time() - begin), (time.time() - begin) / 60
            told = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(
                f"{minutes:5.1f} min  step {step}  {told}  scale {scale_of(model).item():.1f}  "
                f"rate {rate:.1e}  {speed:.0f} items/s",
                flush=True,
            )
        if time.time() - exported > EXPORT_SECONDS:
            export(blend(average, start, args.keep), model, student.tokenizer, folder)
            exported = time.time()
    export(blend(average, start, args.keep), model, student.tokenizer, folder)
    print(f"done: {step} steps, {step * args.batch / len(lessons.rows):.1f} epochs", flush=True)


def losses_of(
    student: Student,
    lessons: Lessons,
    rows: np.ndarray,
    rng: np.random.Generator,
    *,
    clean: bool,
    eyes_learn: bool,
    words_learn: bool,
) -> dict[str, Tensor]:
    """What the student gets wrong of one batch.

    Args:
        student: it sees and reads.
        lessons: pictures, captions and what the teacher says.
        rows: the items of the batch.
        rng: chooses the attributes that are asked about.
        clean: every patch, hardly any augmentation, nothing mixed.
        eyes_learn: whether the picture tower gets gradients.
        words_learn: whether the text tower gets gradients.

    Returns:
        ``contrast``, ``prompts``, ``heads`` and, where there is one for the eyes, ``teacher``.
    """
    model, captions = student.model, lessons.captions
    labels = torch.as_tensor(captions.labels[rows])
    told = np.flatnonzero(captions.has_caption[rows])
    drawn = [captions.draw(int(i)) for i in rows[told]]
    texts, demands = [d[0] for d in drawn], torch.as_tensor(np.stack([d[1] for d in drawn]))
    shown, affine = augment(lessons.pixels[rows], lessons.products[rows], clean=clean)
    shown, source = mix(shown, torch.as_tensor(~captions.has_caption[rows] & (not clean)))
    whole = (source == torch.arange(len(rows))[:, None]).all(1, keepdim=True)
    with torch.set_grad_enabled(eyes_learn):
        features, states, kept = see(model, shown, keep=1.0 if clean else 0.5)
        pictures = F.normalize(model.visual_projection(features).float(), dim=-1)
    with torch.set_grad_enabled(words_learn):
        words = read(model, student.tokenizer, texts)
        prompts = ask(student, captions, rng)
    scale = scale_of(model)
    softly = {facet: chances[rows] for facet, chances in lessons.soft.items()}
    wanted = targets(labels, softly, {f: len(p) for f, p in prompts.items()})
    wanted = {f: chances[source].mean(1) for f, chances in wanted.items()}
    losses = {
        "contrast": contrast(pictures[told], words, scale, texts, labels[told], demands),
        "prompts": prompt_loss(prompts, pictures, scale, wanted, lessons.shares),
        "heads": head_loss(student.heads, features, labels.where(whole, -1)),
    }
    if lessons.maps is not None and eyes_learn:
        seen = torch.as_tensor(lessons.maps[rows].astype(np.float32))
        losses["teacher"] = student.pupil.loss(
            features.float(), states.float(), kept, seen, affine, source
        )
    return losses


def scale_of(model: CLIPModel) -> Tensor:
    """By what cosines are multiplied: the inverse of the temperature."""
    return model.logit_scale.exp().clamp(max=LARGEST_SCALE)


def ask(student: Student, captions: Captions, rng: np.random.Generator) -> dict[str, Tensor]:
    """The written-out values of four attributes as unit vectors, other attributes each time."""
    facets = ["type", "garment", *map(str, rng.choice(FACETS[2:], 2, replace=False))]
    prompts = {facet: captions.prompts(facet) for facet in facets if captions.values[facet]}
    texts = [text for values in prompts.values() for text in values]
    vectors = read(student.model, student.tokenizer, texts)
    parts = vectors.split([len(values) for values in prompts.values()])
    return dict(zip(prompts, parts, strict=True))


def build_optimizers(
    model: CLIPModel, parts: nn.Module, rate: float
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for all other weights."""
    layers = {p for n, p in model.named_parameters() if ".encoder.layers." in n and p.ndim > 1}
    others = [p for p in parts.parameters() if p not in layers and p is not model.logit_scale]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.1, "speed": 1},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0, "speed": 1},
        # Adam moves it by a rate a step: a short run needs larger ones
        {"params": [model.logit_scale], "weight_decay": 0.0, "speed": SCALE_SPEED},
    ]
    matrices = [{"params": [p for p in parts.parameters() if p in layers], "speed": 1}]
    muon = torch.optim.Muon(matrices, rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    return [torch.optim.AdamW(groups, rate, betas=(0.9, 0.98)), muon]


def endless_batches(rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffle again and again; an epoch's remainder is dropped."""
    while True:
        shuffled = rng.permutation(rows)
        for i in range(0, len(shuffled) - size + 1, size):
            yield shuffled[i : i + size]


@torch.no_grad()
def follow(average: dict[str, Tensor], model: CLIPModel, *, decay: float) -> None:
    """Move the averaged weights a little towards the present ones."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)


def blend(weights: dict[str, Tensor], start: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights on the line between the run's and its start's (Wortsman et al. 2022)."""
    floats = {name: value for name, value in weights.items() if value.is_floating_point()}
    return {name: torch.lerp(value, start[name], share) for name, value in floats.items()}


if __name__ == "__main__":
    main()
