"""A product's texts → the caption that a step sees: long and short ones, highlights in any order.

A model that only ever read long captions does worse on short queries; one that read highlights
in one order relies on the order.
"""

import re
from functools import lru_cache

import numpy as np

from fashionclip.text.captions import build_caption
from fashionclip.train.pairs import Pair
from fashionclip.train.recipe import Augment

SHORT_WORDS = 8
PASSAGE_WORDS = 60
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def draw_caption(pair: Pair, augment: Augment, rng: np.random.Generator) -> str:
    """Put a caption together.

    Args:
        pair: whose texts they are.
        augment: how often it is short or long, and what happens to highlights.
        rng: decides.

    Returns:
        Without augmentation, what ``build_caption`` makes of the pair; never empty.
    """
    kind = rng.random()
    if kind < augment.short_captions:
        return _short(pair, rng)
    if kind < augment.short_captions + augment.long_captions and pair.description:
        return _passage(pair, rng)
    highlights = list(pair.highlights)
    if augment.highlight_order:
        highlights = [highlights[i] for i in rng.permutation(len(highlights))]
    if augment.highlight_dropout:
        stays = rng.random(len(highlights)) >= augment.highlight_dropout
        highlights = [one for one, stay in zip(highlights, stays, strict=True) if stay]
    return build_caption(highlights, pair.title) or pair.caption


def _short(pair: Pair, rng: np.random.Generator) -> str:
    words = (pair.title or pair.caption).split()[:SHORT_WORDS]
    if pair.highlights and len(words) < SHORT_WORDS and rng.random() < 0.5:
        return build_caption([pair.highlights[rng.integers(len(pair.highlights))]], " ".join(words))
    return " ".join(words)


def _passage(pair: Pair, rng: np.random.Generator) -> str:
    sentences = _sentences(pair.description)
    first = int(rng.integers(len(sentences)))
    last = first + 1 + int(rng.integers(3))
    words = " ".join(sentences[first:last]).split()[:PASSAGE_WORDS]
    return build_caption([" ".join(words)], pair.title if rng.random() < 0.5 else "")


@lru_cache(maxsize=65536)
def _sentences(description: str) -> tuple[str, ...]:
    return tuple(filter(None, _SENTENCE_END.split(description))) or (description,)
