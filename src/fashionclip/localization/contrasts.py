"""The texts that are looked for, and those that they are compared with: lines of a file."""

from collections.abc import Sequence
from importlib.resources import files

MAX_TEXTS = 1000


def check_texts(texts: Sequence[str], name: str) -> tuple[str, ...]:
    """Texts without white space at their ends.

    Args:
        texts: the words to look for, or the contrast texts.
        name: what they are, for the message.

    Raises:
        ValueError: a single string, none, an empty one, or more than ``MAX_TEXTS``.
    """
    if isinstance(texts, str) or not texts:
        message = f"{name} is a list of at least one text, such as ['sleeve', 'collar']"
        raise ValueError(message)
    if len(texts) > MAX_TEXTS:
        message = f"there are {len(texts):,} {name}; pass at most {MAX_TEXTS:,} at a time"
        raise ValueError(message)
    stripped = tuple(text.strip() for text in texts)
    for i, text in enumerate(stripped, start=1):
        if not text:
            message = f"text {i} of {name} is empty; write a word such as 'sleeve'"
            raise ValueError(message)
    return stripped


def _read() -> tuple[str, ...]:
    text = files("fashionclip.localization").joinpath("contrasts.txt").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


CONTRASTS = _read()
"""What else an image of clothes may show. A text that means nearly the same as a word is left out
for that word."""
