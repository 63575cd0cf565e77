"""Train the built-in model: a small CLIP, from a random start, on a CPU.

    python scripts/train_builtin.py --kagl DIR --clothing DIR --minutes 120 --out RUN
    python scripts/train_builtin.py … --start RUN/checkpoint --out RUN2      # go on from a run

Symmetric InfoNCE with a learned, clamped temperature; the same caption elsewhere in a batch is
not a negative. Beside it, linear heads tell the attributes that are known (article type, colour,
sleeve, …): the contrastive loss alone stays at chance for hundreds of steps. Half of the patches
are dropped until the last sixth of the run (Li et al. 2023, "Scaling Language-Image Pre-training
via Masking"). Weights are averaged as they go. Never trained on Fashion-MNIST.
"""

import argparse
import csv
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from tokenizers import models, pre_tokenizers, trainers
from transformers import CLIPConfig as HubConfig
from transformers import CLIPModel

from fashionclip.checkpoint.config import (
    CLIPConfig,
    TextConfig,
    VisionConfig,
    write_config,
    write_preprocess,
)
from fashionclip.images import CLIP_MEAN, CLIP_STD, Preprocess, preprocess
from fashionclip.sample import draw_product, sample_products
from fashionclip.texts import build_caption
from fashionclip.tokenizer import END, START, Tokenizer, clip_rules

IMAGE_PX, STORED_PX, PATCH_PX = 112, 128, 16
WIDTH, VISION_LAYERS, TEXT_LAYERS, HEADS = 256, 6, 3, 4
CONTEXT, TRAINED_TOKENS, VOCABULARY = 77, 24, 5000
BATCH, PEAK_LR, WARM_UP, MAX_SCALE = 256, 1e-3, 200, 60.0
KEPT_PATCHES, WHOLE_FROM = 0.5, 0.83
TEST_BRANDS, TEST_SENDERS = 8, 10  # percent, by the hash of the name
SAMPLE_SEED = 7919  # the catalogue that ships is drawn with seed 0

# how a catalogue's article types are called in a query
NOUNS = {
    "Tshirts": ("t-shirt", "tee"),
    "Casual Shoes": ("casual shoe", "sneaker"),
    "Sports Shoes": ("sports shoe", "sneaker", "running shoe"),
    "Kurtas": ("kurta", "tunic"),
    "Handbags": ("handbag", "bag"),
    "Sunglasses": ("sunglasses",),
    "Watches": ("watch",),
    "Heels": ("heels", "high heel", "sandal"),
    "Flip Flops": ("flip flop", "sandal"),
    "Sweatshirts": ("sweatshirt", "pullover"),
    "Sweaters": ("sweater", "pullover"),
    "sweater": ("sweater", "jumper", "pullover"),
    "Trousers": ("trousers", "pants"),
    "trousers": ("trousers", "pants"),
    "Jeans": ("jeans", "denim trousers"),
    "jeans": ("jeans", "denim trousers"),
    "Backpacks": ("backpack", "bag"),
    "backpack": ("backpack", "bag"),
    "handbag": ("handbag", "bag"),
    "Jackets": ("jacket", "coat"),
    "jacket": ("jacket", "coat"),
    "Shorts": ("shorts",),
    "Flats": ("flats",),
    "Track Pants": ("track pants", "trousers"),
    "Dresses": ("dress",),
    "Pants": ("pants", "trousers"),
    "Longsleeve": ("long-sleeve top", "pullover"),
    "Shoes": ("shoe", "sneaker"),
    "Outwear": ("coat", "jacket"),
    "Hat": ("hat", "cap"),
    "Blazer": ("blazer", "jacket"),
    "Undershirt": ("undershirt", "tank top"),
    "Polo": ("polo shirt",),
    "Body": ("bodysuit",),
    "boots": ("boots", "ankle boot"),
    "sneakers": ("sneakers", "sneaker", "trainers"),
    "sandals": ("sandals", "sandal"),
    "heels": ("heels", "high heels"),
    "cap": ("cap", "hat"),
}


@dataclass(frozen=True)
class Example:
    """A picture, its words, and what is known of it."""

    picture: Callable[[], bytes | Image.Image]
    kind: str
    """The article type, as its source calls it."""
    source: str
    title: str = ""
    highlights: tuple[str, ...] = ()
    colour: str = ""
    pattern: str = ""
    sleeve: str = ""
    gender: str = ""
    known: dict[str, str] = field(default_factory=dict)
    """Head to value; a head is a question that one linear layer answers."""
    is_test: bool = False


def percent(name: str) -> int:
    """A name's place in 0…99, the same on every machine."""
    return int(hashlib.md5(name.casefold().encode()).hexdigest(), 16) % 100


def read_kagl(folder: Path) -> list[Example]:
    """Kaggle's Fashion Product Images; whole brands are held out."""
    found = []
    with (folder / "styles.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            known = json.loads(row["articleAttributes"] or "{}")
            path = folder / "images" / f"{row['id']}.jpg"
            heads = {f"kagl {name}": value for name, value in known.items() if name in ASKED}
            heads |= {"kagl type": row["articleType"], "kagl gender": row["gender"]}
            heads |= {"kagl colour": row["baseColour"], "kagl usage": row["usage"]}
            found.append(
                Example(
                    picture=path.read_bytes,
                    kind=row["articleType"],
                    source="kagl",
                    title=row["productDisplayName"],
                    highlights=tuple(v for v in known.values() if len(v) < 30),
                    colour=row["baseColour"].lower().replace("na", ""),
                    pattern=known.get("Pattern", "").lower(),
                    sleeve=known.get("Sleeve Length", "").lower(),
                    gender=row["gender"].lower(),
                    known=heads,
                    is_test=percent(row["brandName"]) < TEST_BRANDS,
                )
            )
    return found


ASKED = ("Pattern", "Sleeve Length", "Neck", "Collar", "Print or Pattern Type")


def read_clothing(folder: Path) -> list[Example]:
    """Photographs people took of their clothes; whole senders are held out."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return [
            Example(
                picture=(folder / row["image"]).read_bytes,
                kind=row["label"],
                source="clothing",
                gender="kids" if row["kids"] == "True" else "",
                known={"clothing label": row["label"]},
                is_test=percent(f"s{row['sender_id']}") < TEST_SENDERS,
            )
            for row in csv.DictReader(file)
        ]


def draw_samples(n_products: int) -> list[Example]:
    """Drawn products, of another seed than those that ship."""
    found = []
    for product in sample_products(n_products, seed=SAMPLE_SEED):
        seen = product.attributes
        sleeve = {"short": "short sleeves", "long": "long sleeves"}.get(seen.sleeve or "", "")
        heads = {"drawn type": seen.category, "drawn colour": seen.colour}
        heads |= {"drawn pattern": seen.pattern, "drawn sleeve": seen.sleeve or ""}
        heads |= {"drawn neckline": seen.neckline or ""}
        found.append(
            Example(
                picture=lambda seen=seen, seed=product.seed: draw_product(seen, seed=seed),
                kind=seen.category,
                source="drawn",
                title=product.title,
                highlights=product.highlights,
                colour=seen.colour,
                pattern=seen.pattern,
                sleeve="sleeveless" if seen.sleeve == "sleeveless" else sleeve,
                gender="" if seen.gender == "Unisex" else seen.gender.lower(),
                known=heads,
            )
        )
    return found


def noun_of(kind: str, rng: random.Random) -> str:
    """A word for an article type, as a query would say it."""
    plain = kind.lower()
    singular = re.sub("s$", "", plain) if not plain.endswith("ss") else plain
    return rng.choice(NOUNS.get(kind, (singular,)))


def caption_of(example: Example, rng: random.Random) -> str:
    """One of the many ways to say a product: title, title and highlights, or a short query."""
    draw = rng.random()
    if example.title and draw < 0.2:
        return example.title
    if example.title and draw < 0.4:
        picked = rng.sample(example.highlights, min(4, len(example.highlights)))
        return build_caption(picked, example.title)
    words = [noun_of(example.kind, rng)]
    if example.colour and rng.random() < 0.6:
        words.insert(0, example.colour)
    if example.pattern and rng.random() < 0.35:
        words.insert(rng.randrange(2) if len(words) > 1 else 0, example.pattern)
    phrase = " ".join(words)
    if example.gender and rng.random() < 0.25:
        phrase = rng.choice((f"{example.gender} {phrase}", f"{phrase} for {example.gender}"))
    if example.sleeve and rng.random() < 0.25:
        phrase = f"{phrase} with {example.sleeve}"
    return f"a photo of a {phrase}" if rng.random() < 0.3 else phrase


def train_tokenizer(examples: Sequence[Example]) -> Tokenizer:
    """A small byte-pair vocabulary by CLIP's rules; its full one would weigh more than the rest."""
    rng = random.Random(0)
    words = [caption_of(example, rng) for example in examples for _ in range(3)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rules = clip_rules({START: 0, END: 1}, [])
    rules.model = models.BPE(end_of_word_suffix="</w>", unk_token=END)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rules.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in json.loads(rules.to_str())["model"]["merges"]]
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    pieces = list(dict.fromkeys([*pieces, *(left + right for left, right in merges)]))
    vocab = {piece: i for i, piece in enumerate([*pieces, START, END])}
    rules = clip_rules(vocab, merges)
    rules.enable_truncation(max_length=CONTEXT)
    return Tokenizer(rules, CONTEXT, vocab[START], vocab[END])


def config_for(tokenizer: Tokenizer) -> CLIPConfig:
    """The model's sizes."""
    common = {"width": WIDTH, "heads": HEADS, "mlp_width": 4 * WIDTH}
    common |= {"activation": "gelu", "layer_norm_eps": 1e-5}
    return CLIPConfig(
        vision=VisionConfig(layers=VISION_LAYERS, image_px=IMAGE_PX, patch_px=PATCH_PX, **common),
        text=TextConfig(
            layers=TEXT_LAYERS,
            vocab_size=tokenizer.end_id + 1,
            context_length=CONTEXT,
            **common,
        ),
        projection_dim=WIDTH,
        end_of_text="first",
        end_id=tokenizer.end_id,
        logit_scale=float(np.log(10.0)),
    )


def augment(pixels: torch.Tensor) -> torch.Tensor:
    """Vary stored pictures ``(n, h, w, 3) uint8`` and bring them to the tower's size, normalised.

    Flip, scale, shift, a slight turn, brightness; some grey, tiny or on black, for pictures that
    are no product photographs. No change of hue: captions name colours.
    """
    n = len(pixels)
    x = pixels.permute(0, 3, 1, 2).float() / 255
    scale = torch.empty(n).uniform_(0.75, 1.05)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    turn = torch.randn(n) * 0.05
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = scale * flip * torch.empty(n).uniform_(0.93, 1.07)
    theta[:, 1, 1] = scale
    theta[:, 0, 1], theta[:, 1, 0] = turn, -turn
    theta[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * (1.05 - scale)[:, None]
    grid = F.affine_grid(theta, (n, 3, IMAGE_PX, IMAGE_PX), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = x * torch.empty(n, 1, 1, 1).uniform_(0.8, 1.2) + torch.empty(n, 1, 1, 1).uniform_(
        -0.08, 0.08
    )
    grey, tiny, dark = (torch.rand(n) < share for share in (0.12, 0.12, 0.05))
    x[grey] = x[grey].mean(1, keepdim=True)
    if tiny.any():
        small = F.interpolate(x[tiny], 28, mode="bilinear", antialias=True)
        x[tiny] = F.interpolate(small, IMAGE_PX, mode="bilinear")
    x[dark] = 1 - x[dark]
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return (x.clamp(0, 1) - mean) / std


def picture_states(model: CLIPModel, x: torch.Tensor, kept: float) -> torch.Tensor:
    """Class token states ``(n, width)`` seen through a random share of the patches."""
    vision = model.vision_model
    tokens = vision.embeddings(x)
    if kept < 1:
        n, n_tokens, width = tokens.shape
        chosen = torch.rand(n, n_tokens - 1).argsort(1)[:, : int((n_tokens - 1) * kept)] + 1
        chosen = torch.cat([torch.zeros(n, 1, dtype=torch.long), chosen], 1)
        tokens = tokens.gather(1, chosen[:, :, None].expand(-1, -1, width))
    states = vision.encoder(inputs_embeds=vision.pre_layrnorm(tokens)).last_hidden_state
    return vision.post_layernorm(states[:, 0])


def text_vectors(model: CLIPModel, tokenizer: Tokenizer, captions: list[str]) -> torch.Tensor:
    """Unit vectors ``(n, dim)``; short and long captions are padded apart."""
    tokens = [tokenizer.encode([caption])[0][:TRAINED_TOKENS] for caption in captions]
    by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    vectors: dict[int, torch.Tensor] = {}
    for rows in (by_length[: len(tokens) // 2], by_length[len(tokens) // 2 :]):
        padded = np.full((len(rows), len(tokens[rows[-1]])), tokenizer.end_id)
        for line, row in zip(padded, rows, strict=True):
            line[: len(tokens[row])] = tokens[row]
        padded[:, -1] = tokenizer.end_id  # also where a caption was cut
        pooled = model.text_model(torch.from_numpy(padded)).pooler_output
        states = model.text_projection(pooled).float()
        vectors |= dict(zip(rows, F.normalize(states, dim=-1), strict=True))
    return torch.stack([vectors[i] for i in range(len(captions))])


def contrastive_loss(
    pictures: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, captions: list[str]
) -> torch.Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, figure 3) in which twins are not negatives."""
    logits = scale.exp().clamp(max=MAX_SCALE) * pictures @ texts.T
    numbers = {caption.lower(): i for i, caption in enumerate(captions)}
    ids = torch.tensor([numbers[caption.lower()] for caption in captions])
    twins = (ids[:, None] == ids[None]) & ~torch.eye(len(ids), dtype=torch.bool)
    logits = logits.masked_fill(twins, -1e4)
    targets = torch.arange(len(ids))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def heads_for(examples: Sequence[Example]) -> dict[str, tuple[int, torch.Tensor]]:
    """For each question: the number of answers, and each example's answer or -1."""
    found = {}
    for name in sorted({name for example in examples for name in example.known}):
        values = [example.known.get(name, "") for example in examples]
        usual = [v for v, n in Counter(filter(None, values)).most_common() if n >= 10]
        index = {value: i for i, value in enumerate(usual)}
        if len(usual) > 1:
            found[name] = (len(usual), torch.tensor([index.get(v, -1) for v in values]))
    return found


def export(
    weights: dict[str, torch.Tensor], config: CLIPConfig, tokenizer: Tokenizer, folder: Path
) -> None:
    """Write a checkpoint folder with half-precision weights."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() for k, v in weights.items() if v.is_floating_point()}
    half["logit_scale"] = weights["logit_scale"].float()
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    raw = write_config(config)
    raw["text_config"]["bos_token_id"] = tokenizer.start_id
    settings = write_preprocess(Preprocess(IMAGE_PX, "pad"))
    for name, content in (("config.json", raw), ("preprocessor_config.json", settings)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name, text in tokenizer.files().items():
        (folder / name).write_text(text, encoding="utf-8")


def train(arguments: argparse.Namespace) -> None:
    """Train for the given time, and write the checkpoint every few minutes."""
    torch.manual_seed(arguments.seed)
    rng = random.Random(arguments.seed)
    examples = [*read_kagl(arguments.kagl), *read_clothing(arguments.clothing)]
    examples += draw_samples(arguments.drawn)
    stored = Preprocess(STORED_PX, "pad")
    with ThreadPoolExecutor(2) as pool:
        pixels = torch.from_numpy(
            np.stack(list(pool.map(lambda e: preprocess(e.picture(), stored), examples)))
        )
    start = arguments.start
    tokenizer = (
        Tokenizer.from_folder(start, context_length=CONTEXT) if start else train_tokenizer(examples)
    )
    config = config_for(tokenizer)
    model = CLIPModel(HubConfig(**write_config(config)))
    if start:
        model = CLIPModel.from_pretrained(start, dtype=torch.float32)
    with torch.no_grad():
        model.logit_scale.clamp_(min=config.logit_scale)
    questions = heads_for(examples)
    heads = torch.nn.ModuleList(torch.nn.Linear(WIDTH, n) for n, _ in questions.values())
    decayed = [p for p in [*model.parameters(), *heads.parameters()] if p.ndim > 1]
    plain = [p for p in [*model.parameters(), *heads.parameters()] if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
    )
    train_rows = np.array([i for i, example in enumerate(examples) if not example.is_test])
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    print(f"{len(train_rows)} of {len(examples)} examples, {len(questions)} questions", flush=True)
    began, step, last_export = time.monotonic(), 0, time.monotonic()
    seen: dict[str, float] = {}
    while (share := (time.monotonic() - began) / 60 / arguments.minutes) < 1:
        rows = torch.from_numpy(
            np.random.default_rng((arguments.seed, step)).choice(train_rows, BATCH, replace=False)
        )
        rate = PEAK_LR * min(1, (step + 1) / WARM_UP) * (0.5 * (1 + np.cos(np.pi * share)) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate * (arguments.lr / PEAK_LR)
        captions = [caption_of(examples[int(i)], rng) for i in rows]
        with torch.autocast("cpu", torch.bfloat16):
            kept = KEPT_PATCHES if share < WHOLE_FROM else 1.0
            states = picture_states(model, augment(pixels[rows]), kept)
            vectors = F.normalize(model.visual_projection(states).float(), dim=-1)
            texts = text_vectors(model, tokenizer, captions)
            answers = [
                F.cross_entropy(
                    head(states).float(), truth[rows], ignore_index=-1, label_smoothing=0.05
                )
                for head, (_, truth) in zip(heads, questions.values(), strict=True)
                if (truth[rows] >= 0).any()
            ]
        contrastive = contrastive_loss(vectors, texts, model.logit_scale, captions)
        loss = contrastive + max(0.15, 0.5 * (1 - share)) * torch.stack(answers).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - min(0.998, step / (step + 10)))
        for name, value in (("contrastive", contrastive), ("heads", torch.stack(answers).mean())):
            seen[name] = 0.95 * seen.get(name, value.item()) + 0.05 * value.item()
        if step % 25 == 0:
            minutes = (time.monotonic() - began) / 60
            line = {"step": step, "epoch": round(step * BATCH / len(train_rows), 2), **seen}
            line |= {"scale": model.logit_scale.exp().item(), "lr": rate, "minutes": minutes}
            print(json.dumps(line), flush=True)
        if time.monotonic() - last_export > 480:
            export(average, config, tokenizer, arguments.out / "checkpoint")
            last_export = time.monotonic()
    export(average, config, tokenizer, arguments.out / "checkpoint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kagl", type=Path, required=True, help="styles.csv and images/")
    parser.add_argument("--clothing", type=Path, required=True, help="labels.csv and images/")
    parser.add_argument("--out", type=Path, required=True, help="where the run is written")
    parser.add_argument("--start", type=Path, help="checkpoint to go on from")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--drawn", type=int, default=4000, help="sample products to draw")
    parser.add_argument("--lr", type=float, default=PEAK_LR)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
