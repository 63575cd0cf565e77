"""Teach the text tower words that no caption uses: those of other languages, and synonyms.

    python projects/builtin/distill_words.py CHECKPOINT TABLE --wordnet DIR --out OUT

trains the text tower alone, without images. It learns that "rotes Kleid" has the vector that the
frozen tower gives "red dress", and "parka" that of "jacket". Texts that the tower knows keep their
vectors. ``languages.tsv`` has the words of other languages; the synonyms are WordNet's.

Source: Reimers and Gurevych 2020, arXiv 2004.09813 (a student learns a teacher's sentence vectors
for translations); here teacher and student start from the same weights.
"""

import argparse
import json
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch
from labels import FORMS, SYNONYMS, normalize
from languages import LANGUAGES, translated_phrase, words
from sources import ATTRIBUTES, CATEGORY_ATTRIBUTES
from torch import Tensor
from torch.nn import functional
from wordnet import categories_of_words

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.checkpoint.folder import TRAINED_ON
from fashionclip.engines.towers import Towers
from fashionclip.text.captions import PROMPT_TEMPLATES, build_caption
from fashionclip.train.model import save_weights, text_inputs

TEMPLATES = PROMPT_TEMPLATES["sentences"]
SHARES = {"foreign": 0.3, "synonym": 0.12, "form": 0.12, "known": 0.26, "prompt": 0.2}
"""Parts of a batch."""
OTHER_VALUES = 0.4
"""How often an attribute is another value than the row's, so that rare words come up."""
PROMPTED = 0.3
"""How often a phrase stands in a prompt, as ``classify`` and ``tag`` fill labels into them."""
WITHOUT_ACCENTS = 0.1
WORDS = "text_model.embeddings.token_embedding.weight"
WORDS_LR_SCALE = 8.0
"""New words are learned by their own vectors first, so that the layers change little."""
N_MEASURED = 1000
"""Texts that are kept apart to measure what changed."""
MAX_CHARS = 120
"""Descriptions are cut here, as the first sentences say what a product is."""


T = TypeVar("T")


@dataclass(frozen=True)
class Lesson:
    """A text, and the texts whose mean vector it shall have."""

    text: str
    meant: tuple[str, ...]


Draw = Callable[[np.random.Generator], Lesson]


class TextEncoder:
    """The text tower of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Load the weights."""
        self.towers = Towers.from_checkpoint(checkpoint)
        self._checkpoint = checkpoint

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors ``(n, dim)``."""
        tokens = self._checkpoint.tokenizer.encode(texts)
        inputs = text_inputs(tokens, self._checkpoint, torch.device("cpu"))
        return functional.normalize(self.towers.encode_text(*inputs), dim=-1)


class Teacher:
    """Frozen vectors of texts; each text is encoded once."""

    def __init__(self, encoder: TextEncoder) -> None:
        """Begin without vectors."""
        self._encoder, self._vectors = encoder, dict[str, Tensor]()

    def targets(self, lessons: Sequence[Lesson]) -> Tensor:
        """Unit vectors ``(lesson, dim)``: the mean of what each lesson means."""
        texts = {text for lesson in lessons for text in lesson.meant}
        new = sorted(texts - self._vectors.keys())
        if new:
            with torch.no_grad():
                self._vectors |= dict(zip(new, self._encoder.encode(new), strict=True))
        means = [torch.stack([self._vectors[t] for t in one.meant]).mean(0) for one in lessons]
        return functional.normalize(torch.stack(means), dim=-1)


def main() -> None:
    """Read the arguments, train, write the checkpoint, and say what changed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="folder of a trained checkpoint")
    parser.add_argument("table", type=Path, help="the training table, catalog.parquet")
    parser.add_argument("--wordnet", type=Path, required=True, help="dict folder of WordNet")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=192, help="texts of a step")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    checkpoint = open_checkpoint(args.checkpoint)
    rows = pq.read_table(args.table).to_pylist()
    known = known_texts(rows)
    rng = np.random.default_rng(args.seed)
    order = rng.permutation(len(known))
    measured = [known[i] for i in order[:N_MEASURED]]
    synonyms = unknown_words(args.wordnet, rows, known)
    draws = {
        "foreign": foreign_lessons(rows),
        "synonym": synonym_lessons(synonyms, rows),
        "form": form_lessons(rows),
        "known": known_lessons([known[i] for i in order[N_MEASURED:]]),
        "prompt": known_lessons(prompts(rows)),
    }
    print(f"{len(synonyms):,} synonyms, {len(known):,} known texts", flush=True)
    before, student = TextEncoder(checkpoint), TextEncoder(checkpoint)
    teacher = Teacher(before)
    examined = {
        "English": [Lesson(text, (text,)) for text in measured],
        **{name: draw_many(draw, N_MEASURED, args.seed + 1) for name, draw in draws.items()},
    }
    cosines = {name: [agreement(student, teacher, some)] for name, some in examined.items()}
    for step, loss in train(student, teacher, draws, args.steps, args.batch, args.lr, rng):
        if step % 50 == 0:
            print(f"step {step} of {args.steps}, 1 - cosine {loss:.4f}", flush=True)
    for name, some in examined.items():
        first, last = *cosines[name], agreement(student, teacher, some)
        print(f"{name}: mean cosine with what is meant {first:.3f} before, {last:.3f} after")
    write(checkpoint, student, args.out)


def train(
    student: TextEncoder,
    teacher: Teacher,
    draws: Mapping[str, Draw],
    n_steps: int,
    batch_size: int,
    lr: float,
    rng: np.random.Generator,
) -> Iterator[tuple[int, float]]:
    """Train the text tower; the number of each step and its loss."""
    weights = text_weights(student.towers)
    words_alone = [weights.pop(WORDS)]
    groups = [
        {"params": words_alone, "scale": WORDS_LR_SCALE},
        {"params": [*weights.values()], "scale": 1.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr, betas=(0.9, 0.98), weight_decay=0.0)
    warmup = max(1, n_steps // 20)
    for step in range(n_steps):
        rate = min((step + 1) / warmup, 0.5 + 0.5 * np.cos(np.pi * step / n_steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate * group["scale"]
        lessons = [
            draws[name](rng)
            for name, share in SHARES.items()
            for _ in range(round(share * batch_size))
        ]
        found = student.encode([lesson.text for lesson in lessons])
        loss = 1 - (found * teacher.targets(lessons)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step + 1, float(loss.detach())


def text_weights(towers: Towers) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name: of the text tower and of its projection."""
    return {
        name: weight
        for name, weight in towers.named_parameters()
        if name.startswith(("text_model.", "text_projection."))
    }


def agreement(encoder: TextEncoder, teacher: Teacher, lessons: Sequence[Lesson]) -> float:
    """Mean cosine of the lessons' texts with what they mean."""
    total = 0.0
    for start in range(0, len(lessons), 256):
        some = lessons[start : start + 256]
        with torch.no_grad():
            found = encoder.encode([lesson.text for lesson in some])
        total += float((found * teacher.targets(some)).sum())
    return total / len(lessons)


def write(checkpoint: Checkpoint, student: TextEncoder, folder: Path) -> None:
    """Write the checkpoint with the new text tower; everything else is as it was."""
    scale = torch.from_numpy(np.array(checkpoint.weights()["logit_scale"], np.float32))
    trained: dict[str, Tensor] = dict(text_weights(student.towers))
    save_weights(checkpoint, trained, scale, folder)
    if (checkpoint.folder / TRAINED_ON).exists():
        shutil.copyfile(checkpoint.folder / TRAINED_ON, folder / TRAINED_ON)


def known_texts(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Distinct texts that the tower was trained on: captions, descriptions, phrases, prompts."""
    found: dict[str, None] = {}
    for row in rows:
        found[build_caption(json.loads(row["highlights"]), row["title"])] = None
        found[row["description"][:MAX_CHARS]] = None
        found |= dict.fromkeys(json.loads(row["phrases"]))
    found |= dict.fromkeys(prompts(rows))
    return [text for text in found if text]


def prompts(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Every label, alone and in every template, as classification needs them exactly."""
    values = {normalize(row[name]) for row in rows for name in ATTRIBUTES} - {""}
    labels = sorted(values | {name for some in SYNONYMS.values() for name in some})
    return [template.format(label) for template in ("{}", *TEMPLATES) for label in labels]


def unknown_words(
    wordnet: Path, rows: Sequence[Mapping[str, str]], known: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """WordNet's words of clothing that no known text uses, with the categories they belong to.

    A word that captions use has a meaning already, which may be another one.
    """
    labels = {normalize(row[name]) for row in rows for name in CATEGORY_ATTRIBUTES} - {""}
    names = {name for some in SYNONYMS.values() for name in some}
    written = " | ".join(["", *(" ".join(_words(text)) for text in known), ""])
    used = set(written.split())
    found = {}
    for word, categories in categories_of_words(wordnet, labels | names).items():
        is_used = used.issuperset(_words(word)) and f" {' '.join(_words(word))} " in written
        if not is_used:
            found |= {word: categories, _plural(word): categories}
    return found


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.casefold()).split()


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "sh", "ch")) else "s")


def foreign_lessons(rows: Sequence[Mapping[str, str]]) -> Draw:
    """Phrases in other languages; an attribute is often another value than the row's."""
    values = {kind: sorted(some) for kind, some in words(LANGUAGES[0]).items()}

    def draw(rng: np.random.Generator) -> Lesson:
        attributes = {name: value for name, value in _one(rows, rng).items() if name in ATTRIBUTES}
        for kind, some in values.items():
            if rng.random() < OTHER_VALUES:
                attributes[kind] = _one(some, rng)
        pair = translated_phrase(attributes, _one(LANGUAGES, rng), rng)
        if pair is None:  # a row whose category is in no table
            return draw(rng)
        english, foreign = pair
        if rng.random() < WITHOUT_ACCENTS:
            foreign = without_accents(foreign)
        template = _template(rng)
        return Lesson(template.format(foreign), (template.format(english),))

    return draw


def synonym_lessons(
    synonyms: Mapping[str, tuple[str, ...]], rows: Sequence[Mapping[str, str]]
) -> Draw:
    """Synonyms alone and with a colour; each means its categories."""
    names = sorted(synonyms)

    def draw(rng: np.random.Generator) -> Lesson:
        word = _one(names, rng)
        colour = normalize(_one(rows, rng)["colour"]) if rng.random() < 0.3 else ""
        template = _template(rng).replace("{}", f"{colour} {{}}".strip())
        return Lesson(template.format(word), tuple(map(template.format, synonyms[word])))

    return draw


def form_lessons(rows: Sequence[Mapping[str, str]]) -> Draw:
    """Other forms of an attribute: "v-necked" means "v-neck", "with stripes" means "striped"."""
    nouns = [normalize(row[name]) for row in rows for name in CATEGORY_ATTRIBUTES if row[name]]

    def draw(rng: np.random.Generator) -> Lesson:
        kind = _one(tuple(FORMS), rng)
        value = _one(tuple(FORMS[kind]), rng)
        form = _one(FORMS[kind][value], rng)
        noun = "garment" if rng.random() < 0.2 else _one(nouns, rng)
        template = _template(rng)
        meant = [f"{value} {noun}"]
        if kind in ("sleeve", "neckline") and not value.endswith(("ed", "less")):
            meant.append(f"{noun} with {value}")
        text = f"{noun} {form}" if form.startswith("with") else f"{form} {noun}"
        return Lesson(template.format(text), tuple(map(template.format, meant)))

    return draw


def known_lessons(texts: Sequence[str]) -> Draw:
    """Texts that keep their vectors."""

    def draw(rng: np.random.Generator) -> Lesson:
        text = _one(texts, rng)
        return Lesson(text, (text,))

    return draw


def draw_many(draw: Draw, n: int, seed: int) -> list[Lesson]:
    """Lessons of a seed."""
    rng = np.random.default_rng(seed)
    return [draw(rng) for _ in range(n)]


def without_accents(text: str) -> str:
    """A text as people type it who lack the keys: "grunes kleid"; Japanese stays as it is."""
    letters = []
    for letter in text:
        base = unicodedata.normalize("NFD", letter)
        is_latin = base[0].isascii()
        letters.append(base[0] if is_latin else {"ß": "ss"}.get(letter, letter))
    return "".join(letters)


def _template(rng: np.random.Generator) -> str:
    return _one(TEMPLATES, rng) if rng.random() < PROMPTED else "{}"


def _one(some: Sequence[T], rng: np.random.Generator) -> T:
    return some[int(rng.integers(len(some)))]


if __name__ == "__main__":
    main()
