"""Captions that differ in one word: what a test of wrong attributes is made of."""

from collections import Counter
from collections.abc import Iterable, Sequence

from fashionclip.evaluate.tasks import ImageRef, WrongAttribute

MIN_IMAGES = 10
"""A word that is right for fewer pictures is neither right nor wrong in a task."""
_PAIRS = (
    *("jeans", "trousers", "shorts", "pants", "sunglasses", "leggings", "tights", "stockings"),
    *("socks", "shoes", "sandals", "heels", "gloves", "booties", "boots", "flops", "sneakers"),
    *("cufflinks", "earrings", "briefs", "capris", "jeggings", "trunks", "boxers", "pyjamas"),
)
"""Words that stay plural for one product."""


def wrong_attribute_task(
    name: str,
    attribute: str,
    known: Sequence[tuple[ImageRef, str, str]],
    *,
    alike: Iterable[frozenset[str]] = (),
    least: int = MIN_IMAGES,
    notes: tuple[str, ...] = (),
) -> WrongAttribute | None:
    """Make a task of pictures whose garment and attribute are known.

    A caption is the attribute's word and the garment: ``a red t-shirt``. The wrong words are those
    that are right for other pictures of the same garment.

    Args:
        name: of the task.
        attribute: what is asked: ``colour``.
        known: picture, garment and the attribute's word.
        alike: sets of words that people take for one another, never held against each other.
        least: pictures that a word must be right for.
        notes: what else a reader must know.

    Returns:
        The task; None if no picture is left that has a wrong word.
    """
    counts = Counter(word for _, _, word in known)
    words_of: dict[str, set[str]] = {}
    for _, garment, word in known:
        if counts[word] >= least:
            words_of.setdefault(garment, set()).add(word)
    groups = tuple(alike)
    rivals = {
        (garment, word): sorted(w for w in words if w != word and not _alike(w, word, groups))
        for garment, words in words_of.items()
        for word in words
    }
    asked = [(p, garment, word) for p, garment, word in known if rivals.get((garment, word))]
    if not asked:
        return None
    note = (
        f"{len(asked):,} of {len(known):,} pictures whose {attribute} is known. The wrong words "
        "are those of other pictures of the same kind of garment; a word that is right for fewer "
        f"than {least} pictures is left out, and so are pairs that people take for one another."
    )
    return WrongAttribute(
        name=name,
        attribute=attribute,
        images=tuple(image for image, _, _ in asked),
        values=tuple(word for _, _, word in asked),
        right=tuple(_caption(word, garment) for _, garment, word in asked),
        wrong=tuple(
            tuple(_caption(rival, garment) for rival in rivals[garment, word])
            for _, garment, word in asked
        ),
        notes=(note, *notes),
    )


def is_plural(words: str) -> bool:
    """Whether words for one product are plural: ``sports shoes``."""
    return words.rpartition(" ")[2].rpartition("-")[2] in _PAIRS


def _alike(a: str, b: str, groups: Sequence[frozenset[str]]) -> bool:
    return any(a in group and b in group for group in groups)


def _caption(word: str, garment: str) -> str:
    """``a red t-shirt``, ``an orange cap``, but ``red shoes``."""
    article = "" if is_plural(garment) else "an " if word[0] in "aeiou" else "a "
    return f"{article}{word} {garment}"
