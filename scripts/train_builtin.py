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
import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from builtin_captions import Captions
from builtin_data import (
    FACETS,
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
from builtin_pictures import GRID, PATCH_PX, SIZE_PX, STORED_PX, Pixels, augment, mix
from builtin_teacher import Pupil, read_maps, soft_labels
from safetensors.numpy import load_file, save
from tokenizers import pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from fashionclip.checkpoint.config import read_config, write_config
from fashionclip.checkpoint.folder import write_folder
from fashionclip.checkpoint.preprocessor import write_preprocess
from fashionclip.engines.openvino import precisions_here
from fashionclip.evaluate.leakage import (
    TrainingData,
    digest_training_data,
    write_training_data,
)
from fashionclip.evaluate.tasks import Picture
from fashionclip.images import Preprocess, preprocess
from fashionclip.texts import build_caption
from fashionclip.tokenizer import END, START, Tokenizer, clip_rules

WIDTH, CONTEXT = 256, 77
VOCABULARY = 5000
TRAINED_TOKENS = 32  # captions are cut here while training; few are longer
CLEAN_SHARE = 0.15  # of the time, at the end: every patch, hardly any augmentation
WORDS_REST = 0.5  # of the time, at the start of a run from an export: only the eyes learn
SCALE_SPEED = 10  # the temperature's learning rate, next to the other weights'


def main() -> None:
    """Read the arguments, train, export."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kagl", type=Path, required=True, help="styles.csv and images/")
    parser.add_argument("--clothing", type=Path, required=True, help="labels.csv and images/")
    parser.add_argument("--into", type=Path, required=True, help="for pixels, log and checkpoint")
    parser.add_argument("--start", type=Path, help="an earlier export to go on from")
    parser.add_argument("--keep", type=float, default=0.0, help="share of START in the export")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--drawn", type=int, default=1500, help="drawn products to train on")
    parser.add_argument("--views", type=int, default=5, help="windows of each photograph")
    parser.add_argument("--scenes", type=int, default=2, help="of each garment, on photographs")
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

    pre = Preprocess(STORED_PX, "pad")
    kagl, clothing, drawn = (
        read_kagl(args.kagl),
        read_clothing(args.clothing),
        drawn_items(args.drawn),
    )
    views = views_of(clothing, args.views)
    scenes = scenes_of(kagl, clothing, args.scenes)
    items = [*kagl, *clothing, *drawn, *views, *scenes]
    pictures = draw_pictures(args.drawn)
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
    if args.start:
        tokenizer = Tokenizer.from_folder(args.start, context_length=CONTEXT)
        model = build_model(tokenizer)
        tensors = load_file(args.start / "model.safetensors")
        model.load_state_dict({k: torch.from_numpy(v).float() for k, v in tensors.items()})
    else:
        tokenizer = learn_tokenizer(captions)
        model = build_model(tokenizer)
    train = np.flatnonzero([not item.is_test for item in items])
    write_training_data(what_it_saw([*kagl, *clothing], args.drawn), args.into)
    n_weights = sum(p.numel() for p in model.parameters())
    print(f"{len(train)} of {len(items)} items, {n_weights / 1e6:.2f} M weights", flush=True)
    maps, soft = None, {}
    if args.teacher:
        seen = [*kagl, *clothing, *pictures, *views, *scenes]
        maps = read_maps(seen, train, args.into / "teacher.npy")
        groups = np.array([str(item.picture) for item in items])
        for facet in ("type", "garment"):
            labels = np.full(len(items), -1)
            labels[train] = captions.labels[train, FACETS.index(facet)]
            n_labels = len(captions.values[facet])
            soft[facet] = torch.as_tensor(soft_labels(maps, labels, groups, n_labels))
    teach(model, tokenizer, captions, pixels, train, maps, soft, args)


def what_it_saw(items: list[Item], n_drawn: int) -> TrainingData:
    """Digest the training pictures and texts, so that an evaluation finds them again."""
    seen = [item for item in items if not item.is_test]
    samples = (
        (
            Picture(str(i), item.picture),
            [item.title, build_caption(item.highlights, item.title), *item.sentences],
        )
        for i, item in enumerate(seen)
    )
    description = (
        f"Fashion Product Images and clothing photographs, {len(seen):,} pictures (all but those "
        f"of the held-out brands and senders), and {n_drawn:,} drawn products"
    )
    return digest_training_data(samples, description=description)


def learn_tokenizer(captions: Captions) -> Tokenizer:
    """Learn a byte-pair vocabulary from the captions, under CLIP's rules."""
    rules = clip_rules({}, [])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rules.train_from_iterator(captions.all_texts(), trainer)
    merges = [tuple(pair) for pair in json.loads(rules.to_str())["model"]["merges"]]
    # CLIP's order: letters, letters that end a word, what each merge makes, start, end
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += [left + right for left, right in merges]
    words = [*dict.fromkeys(words), START, END]
    vocab = {word: i for i, word in enumerate(words)}
    return Tokenizer(clip_rules(vocab, merges), CONTEXT, vocab[START], vocab[END])


def build_model(tokenizer: Tokenizer) -> CLIPModel:
    """A CLIP of 8.9 million weights: six layers for pictures, three for words."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": WIDTH // 64,
        "hidden_act": "gelu",
    }
    ends = {"bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    config = CLIPConfig(
        vision_config=tower
        | {"num_hidden_layers": 6, "image_size": SIZE_PX, "patch_size": PATCH_PX},
        text_config=tower
        | ends
        | {
            "num_hidden_layers": 3,
            "vocab_size": tokenizer.rules.get_vocab_size(),
            "max_position_embeddings": CONTEXT,
            "pad_token_id": tokenizer.end_id,
        },
        projection_dim=WIDTH,
    )
    model = CLIPModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10.0))
    return model


def teach(
    model: CLIPModel,
    tokenizer: Tokenizer,
    captions: Captions,
    pixels: Pixels,
    train: np.ndarray,
    maps: np.ndarray | None,
    soft: dict[str, Tensor],
    args: argparse.Namespace,
) -> None:
    """Run the clock down: learning rate, augmentation and the heads' weight follow it."""
    rng = np.random.default_rng(args.seed)
    products = pixels.products()
    labels = torch.as_tensor(captions.labels)
    helped = () if args.start else FACETS
    heads = nn.ModuleDict(
        {f"of {f}": nn.Linear(WIDTH, max(1, len(captions.values[f]))) for f in helped}
    )
    pupil = Pupil(WIDTH)
    parts = nn.ModuleList([model, heads, pupil])
    # a processor without bfloat16 imitates it, ten times as slowly as it computes in float32
    device = torch.get_default_device().type
    has_bfloat16 = device == "cuda" or "bfloat16" in precisions_here()
    optimizers = build_optimizers(model, parts, args.rate)
    start = {k: v.detach().clone() for k, v in model.state_dict().items()}
    average = {k: v.clone() for k, v in start.items()}
    folder = args.into / "checkpoint"
    begin, exported, step, means = time.time(), time.time(), 0, {}
    for rows in endless_batches(train, args.batch, rng):
        passed = (time.time() - begin) / 60 / args.minutes
        if passed >= 1:
            break
        clean = passed > 1 - CLEAN_SHARE
        rate = args.rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * passed) + 0.01)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group["speed"]
        told = np.flatnonzero(captions.has_caption[rows])
        drawn = [captions.draw(int(i)) for i in rows[told]]
        texts, demands = [d[0] for d in drawn], torch.as_tensor(np.stack([d[1] for d in drawn]))
        shown, affine = augment(pixels[rows], products[rows], clean=clean)
        may = torch.as_tensor(~captions.has_caption[rows] & (not clean))
        shown, source = mix(shown, may)
        whole = (source == torch.arange(len(rows))[:, None]).all(1, keepdim=True)
        words_learn = not args.start or passed > WORDS_REST
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16):
            features, states, kept = see(model, shown, keep=1.0 if clean else 0.5)
            pictures = F.normalize(model.visual_projection(features).float(), dim=-1)
            with torch.set_grad_enabled(words_learn):
                words = read(model, tokenizer, texts)
                prompts = ask(model, tokenizer, captions, rng)
            scale = model.logit_scale.exp().clamp(max=60.0)
            true = labels[rows[told]]
            losses = {"contrast": contrast(pictures[told], words, scale, texts, true, demands)}
            softly = {facet: chances[rows] for facet, chances in soft.items()}
            wanted = targets(labels[rows], softly, {f: len(p) for f, p in prompts.items()})
            wanted = {f: chances[source].mean(1) for f, chances in wanted.items()}
            losses["prompts"] = prompt_loss(prompts, pictures, scale, wanted)
            losses["heads"] = head_loss(heads, features, labels[rows].where(whole, -1))
        if maps is not None:
            seen = torch.as_tensor(maps[rows].astype(np.float32))
            losses["teacher"] = pupil.loss(
                features.float(), states.float(), kept, seen, affine, source
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
                f"{minutes:5.1f} min  step {step}  {told}  scale {scale.item():.1f}  "
                f"rate {rate:.1e}  {speed:.0f} items/s",
                flush=True,
            )
        if time.time() - exported > 600:
            export(blend(average, start, args.keep), model.config, tokenizer, folder)
            exported = time.time()
    export(blend(average, start, args.keep), model.config, tokenizer, folder)
    print(f"done: {step} steps, {step * args.batch / len(train):.1f} epochs", flush=True)


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


def see(model: CLIPModel, x: Tensor, *, keep: float) -> tuple[Tensor, Tensor, Tensor]:
    """The picture tower up to its projection, on a random share of the patches (Li et al. 2023).

    Returns:
        What it says of the picture, its states of the patches, and which patches those are.
    """
    tower = model.vision_model
    patches = tower.embeddings(x)
    n, n_patches, width = patches.shape[0], GRID * GRID, patches.shape[2]
    kept = torch.rand(n, n_patches).argsort(1)[:, : int(n_patches * keep)]
    places = torch.cat([torch.zeros(n, 1, dtype=torch.long), kept + 1], 1)
    patches = patches.gather(1, places[:, :, None].expand(-1, -1, width))
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(patches)).last_hidden_state
    return tower.post_layernorm(hidden[:, 0]), hidden[:, 1:], kept


def read(model: CLIPModel, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Unit vectors of texts; short and long ones apart, so that little padding is computed."""
    rows = tokenizer.encode(texts)[:, :TRAINED_TOKENS]
    rows[(rows != tokenizer.end_id).all(1), -1] = tokenizer.end_id
    lengths = (rows != tokenizer.end_id).sum(1) + 1
    order = np.argsort(lengths, kind="stable")
    out = []
    for part in np.array_split(order, 3 if len(order) > 60 else 1):
        ids = torch.as_tensor(rows[part, : lengths[part].max()].astype(np.int64))
        pooled = model.text_model(input_ids=ids).pooler_output
        out.append(F.normalize(model.text_projection(pooled).float(), dim=-1))
    return torch.cat(out)[torch.as_tensor(np.argsort(order))]


def ask(
    model: CLIPModel, tokenizer: Tokenizer, captions: Captions, rng: np.random.Generator
) -> dict[str, Tensor]:
    """The written-out values of four attributes as unit vectors, other attributes each time."""
    facets = ["type", "garment", *rng.choice(FACETS[2:], 2, replace=False)]
    prompts = {str(facet): captions.prompts(str(facet)) for facet in facets}
    vectors = read(model, tokenizer, [text for texts in prompts.values() for text in texts])
    parts = vectors.split([len(texts) for texts in prompts.values()])
    return dict(zip(prompts, parts, strict=True))


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


def export(
    weights: dict[str, Tensor], config: CLIPConfig, tokenizer: Tokenizer, folder: Path
) -> None:
    """Write a folder as the package ships it: float16 weights, both processors, no card."""
    tensors = {
        name: value.to(torch.float16 if value.ndim else torch.float32).numpy(force=True)
        for name, value in weights.items()
    }
    written = write_config(read_config(config.to_dict(), place="the model"))
    texts = {"config.json": json.dumps(written, indent=2) + "\n"}
    texts |= tokenizer.files()
    preprocessor = write_preprocess(Preprocess(SIZE_PX, "pad"))
    texts["preprocessor_config.json"] = json.dumps(preprocessor, indent=2) + "\n"
    blobs = {"model.safetensors": save(tensors, metadata={"format": "pt"})}
    write_folder(folder, texts, [], blobs=blobs)


if __name__ == "__main__":
    main()
