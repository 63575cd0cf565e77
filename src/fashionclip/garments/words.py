"""The words that garments are looked for by, and those for what else a photograph may show."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

MAX_WORDS = 100


def garment_words() -> tuple[str, ...]:
    """What is looked for if no words are given."""
    return _read()["words"]


def other_words() -> tuple[str, ...]:
    """What else a photograph may show, which is not looked for."""
    return _read()["others"]


def check_words(words: Sequence[str]) -> tuple[str, ...]:
    """Words without white space at their ends, each once.

    Raises:
        ValueError: a single string, none, an empty one, or more than ``MAX_WORDS``.
    """
    if isinstance(words, str) or not words:
        message = "words is a list of at least one garment, such as ['dress', 'shoes']"
        raise ValueError(message)
    if len(words) > MAX_WORDS:
        message = f"there are {len(words):,} garment words; give at most {MAX_WORDS}"
        raise ValueError(message)
    stripped = [word.strip() for word in words]
    if "" in stripped:
        message = f"garment word {stripped.index('') + 1} is empty; write one such as 'dress'"
        raise ValueError(message)
    return tuple(dict.fromkeys(stripped))


@cache
def _read() -> dict[str, tuple[str, ...]]:
    text = files("fashionclip.garments").joinpath("garments.toml").read_text(encoding="utf-8")
    return {name: tuple(words) for name, words in tomllib.loads(text).items()}
