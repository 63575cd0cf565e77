"""Full text: the words that products are found by, those of a query, and an index in memory.

Every store keeps the words that ``words_of`` makes of ``product_text`` and looks for those of
``plan``, so that all of them find the same products. Engines add the index and the ranking.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from fashionclip.product import Product, Roles, list_of

K1, B = 1.2, 0.75  # Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009
MAX_WORD_CHARS = 200  # longer ones are cut, in products and queries alike
MIN_CODE_DIGITS = 8  # numbers so long are codes; tables lose their leading zeros
TWO_EDITS_FROM = 8
"""Letters of a word of which two may be wrong. With six, as many typos of one letter are corrected
(93 % of KAGL's words), but of words that a shop has nothing for 43 % are "corrected", not 26 %."""
MAX_ALIKE = 3  # a word that is like more words than these is a word of its own
MAX_RARITY = 20  # so much rarer than another word, a word is not meant by a misspelt one
MAX_JOINED = 8  # words of a query that may be torn apart; long texts are written with care
MAX_APART_CHARS = 20  # of a word that may be two
LIFT = 1.0  # by which a product with all words scores above those that lack one

# scripts that put no blanks between words: Thai to Khmer, kana, Han, hangul
_UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17d3\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
# vowel signs of Indic scripts are no letters to Python
_LETTER = rf"(?:[^\W_{_UNSPACED}]|[\u0900-\u0963\u0970-\u0dff])"
_RUN = re.compile(rf"[{_UNSPACED}]+|{_LETTER}+(?:[-_'\u2019.&/+]{_LETTER}+)*")
_PART = re.compile(rf"{_LETTER}+")
_LAST_ACCENT = "\u06ff"  # marks of scripts beyond Arabic are no accents
_FOLDED = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"}
    | dict.fromkeys("™℠", " ")
)
_SIBILANTS = ("sses", "xes", "zes", "ches", "shes")
_IRREGULAR = {"women": "woman", "men": "man", "children": "child", "scarve": "scarf"}
_VOWELS = "aeiouy"
_SYLLABLE = re.compile(f"[{_VOWELS}]+[^{_VOWELS}]+")
_SHORT = re.compile(f"[^{_VOWELS}]+[{_VOWELS}][^{_VOWELS}wx]$")


def text_columns(roles: Roles) -> list[str]:
    """The columns whose words products are found by: all but ids, captions and descriptions."""
    names = (
        *(roles.sku, roles.barcode, roles.group, roles.brand, roles.title),
        *(roles.category, roles.colour, roles.highlights),
    )
    return list(dict.fromkeys(name for name in names if name is not None))


def product_text(product: Product, roles: Roles) -> str:
    """What a product is found by, each phrase once: its id, ``text_columns`` and its caption."""
    values = [product.columns.get(name) for name in text_columns(roles)]
    phrases = dict[str, str]()
    for text in (product.product_id, *_texts(values), product.caption):
        for phrase in text.split(", "):
            phrases.setdefault(phrase.casefold().strip(), phrase)
    return ", ".join(filter(None, phrases.values()))


def _texts(values: Iterable[object]) -> Iterator[str]:
    """Values as text; those of lists one by one."""
    for value in values:
        items = (
            value if isinstance(value, list) else list_of(value if isinstance(value, str) else None)
        )
        if items is not None:
            yield from _texts(items)
        elif isinstance(value, float) and value.is_integer():
            yield str(int(value))  # a barcode in a column with gaps
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield str(value)


def words_of(text: str) -> list[str]:
    """The words of a product's text, as they are indexed: without case, accents and endings.

    A compound such as ``AB-12`` gives its parts and the whole (``ab12``). A run of a script without
    blanks between words gives its characters and pairs of neighbours.
    """
    found: list[str] = []
    for run in _RUN.findall(_plain(text)):
        if _is_unspaced(run):
            found += run
            found += map("".join, pairwise(run))
        else:
            found += _whole_and_parts(run)
    return found


@dataclass(frozen=True, slots=True)
class SearchWord:
    """A word of a query, and how products may spell it."""

    terms: tuple[str, ...]
    """As it is indexed: whole, then the parts of a compound."""
    typed: str
    """Without case and accents, its ending kept."""
    joined: tuple[str, ...] = ()
    """Written as one with a neighbour: ``tshirt`` for each word of "t shirt"."""

    @property
    def apart(self) -> list[tuple[str, str]]:
        """The pairs of words that it may be: "redshirt" is "red shirt", "tshirt" "t shirt"."""
        word = self.typed
        if not word.isalpha() or len(self.terms) > 1 or not 6 <= len(word) <= MAX_APART_CHARS:
            return []
        cuts = [1] if word[0] != word[1] else []
        if len(word) > 6:
            cuts += range(3, len(word) - 2)
        return [(_term(word[:cut]), _term(word[cut:])) for cut in cuts]

    @property
    def looked_up(self) -> set[str]:
        """All words that a store is asked for."""
        return {*self.terms, *self.joined, *(word for pair in self.apart for word in pair)}

    def is_spelled_otherwise(self, there: set[str]) -> bool:
        """Whether a product with some words has this one joined with a neighbour, or apart."""
        return any(word in there for word in self.joined) or any(map(there.issuperset, self.apart))


def search_words(text: str) -> list[SearchWord]:
    """The distinct words of a query.

    A run of a script without blanks between words gives pairs of neighbours, a word each.
    """
    found: list[SearchWord] = []
    for run in _RUN.findall(_plain(text)):
        if not _is_unspaced(run):
            typed = "".join(_PART.findall(run))[:MAX_WORD_CHARS]
            found.append(SearchWord(_whole_and_parts(run), typed))
        elif len(run) == 1:
            found.append(SearchWord((run,), run))
        else:
            found += [SearchWord((one + other,), one + other) for one, other in pairwise(run)]
    return list(dict.fromkeys(_with_joined(found) if len(found) <= MAX_JOINED else found))


def _with_joined(words: list[SearchWord]) -> list[SearchWord]:
    joined: list[list[str]] = [[] for _ in words]
    for i, (one, other) in enumerate(pairwise(words)):
        is_spaced = not (_is_unspaced(one.typed) or _is_unspaced(other.typed))
        is_simple = len(one.terms) == len(other.terms) == 1
        if is_spaced and is_simple and not (one.typed + other.typed).isdigit():
            is_tee = (one.typed, *other.terms) == ("tee", "shirt")
            both = [_term(one.typed + other.typed), *(["tshirt"] if is_tee else [])]
            joined[i] += [*both, *(["t"] if is_tee else [])]
            joined[i + 1] += both
    return [replace(word, joined=tuple(some)) for word, some in zip(words, joined, strict=True)]


def _plain(text: str) -> str:
    """Text without case, accents and width."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text.casefold().translate(_FOLDED)).casefold()
    apart = unicodedata.normalize("NFD", folded)
    kept = (char for char in apart if char > _LAST_ACCENT or not unicodedata.combining(char))
    return unicodedata.normalize("NFC", "".join(kept))


def _is_unspaced(run: str) -> bool:
    return not _PART.match(run)


@lru_cache(maxsize=1 << 16)
def _whole_and_parts(run: str) -> tuple[str, ...]:
    """A word; if it is a compound, its parts after it."""
    parts = _PART.findall(run)
    if len(parts) == 1:
        return (_term(run),)
    if "'" in run or "\u2019" in run:
        parts = [part for part in parts if len(part) > 1]  # the s of "Levi's"
    return tuple(dict.fromkeys(map(_term, ("".join(_PART.findall(run)), *parts))))


def _term(word: str) -> str:
    """A word as it is indexed."""
    word = word[:MAX_WORD_CHARS]
    if word.isascii() and word.isalpha():
        return _stem(word)
    return word.lstrip("0") if word.isdigit() and len(word) >= MIN_CODE_DIGITS else word


def _stem(word: str) -> str:
    """A word without the endings of plurals (stripes) and participles (striped).

    Other endings stay: leggings are no legs.

    Source: Harman, "How effective is suffixing?", 1991, for plurals; Porter, "An algorithm for
        suffix stripping", 1980, steps 1b and 5a, for participles.
    """
    word = _singular(word)
    word = _IRREGULAR.get(word, word)
    start = word[:-2]
    if word.endswith("ed") and word[-3:] != "eed" and any(char in _VOWELS for char in start):
        is_doubled = start[-1] == start[-2:-1] and start[-1] not in "lsz"
        word = start[:-1] if is_doubled else start + "e" if _is_short(start) else start
    has_mute_e = word.endswith("e") and _SYLLABLE.search(word[:-1]) and not _is_short(word[:-1])
    return word[:-1] if has_mute_e else word


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_SIBILANTS) else word[:-1]


def _is_short(word: str) -> bool:
    """Whether a word is one syllable that an e would make long, such as "cap"."""
    return len(_SYLLABLE.findall(word)) == 1 and _SHORT.search(word) is not None


@dataclass(frozen=True, slots=True)
class WordQuery:
    """The words to look for, once it is known which of them a store has."""

    required: tuple[tuple[str, ...], ...]
    """Products that have a word of each of these rank above all others."""

    @property
    def words(self) -> list[str]:
        """All words; a product that has one of them is found."""
        return list(dict.fromkeys(word for some in self.required for word in some))


def plan(
    text: str, *, is_known: Callable[[str], bool], similar: Callable[[str], Sequence[str]]
) -> WordQuery:
    """What to look for: words that products have, and for others those that are spelled alike.

    Args:
        text: a query.
        is_known: whether a product has a word.
        similar: the words of products that are spelled like one that no product has, as it was
            typed; it is asked only where ``max_edits`` allows any.
    """
    required: list[tuple[str, ...]] = []
    for word in search_words(text):
        whole, *parts = word.terms
        known = [part for part in parts if is_known(part)]
        joined = tuple(filter(is_known, word.joined))
        if is_known(whole) and whole.isalpha() and parts:
            required += [(part, whole) if part in known else (whole,) for part in parts]
        elif is_known(whole):  # parts of a code are other codes
            required.append((whole, *joined))
        elif known := [part for part in known if len(part) > 1 or part.isdigit()]:
            required += [(part,) for part in known]
        elif joined:
            required.append(joined)
        elif pair := next((pair for pair in word.apart if all(map(is_known, pair))), None):
            required += [(part,) for part in pair]
        elif max_edits(word.typed) and (near := tuple(similar(word.typed))):
            required.append(near)
    return WordQuery(tuple(dict.fromkeys(required)))


@lru_cache(maxsize=1 << 16)
def max_edits(word: str) -> int:
    """How many letters may be wrong, missing, too many or swapped in a word that no product has.

    None in short words and in codes: an article number with another digit is another article.
    """
    if len(word) < 4 or not word.isalpha() or _is_unspaced(word):
        return 0
    return 1 if len(_term(word)) < TWO_EDITS_FROM else 2


def endings_of(word: str) -> list[str]:
    """A misspelt word as products may have it: without its endings, as typed, without its s.

    A typo hides which ending a word has: "bascis" is no plural, "basics" is.
    """
    forms = [_term(word)]
    if word.isascii() and word.endswith("s"):
        forms += [word, word[:-1]]
    return list(dict.fromkeys(forms))


def closest(
    word: str, vocabulary: Iterable[str], *, count: Callable[[str], int] | None = None
) -> tuple[str, ...]:
    """The words that are closest to a misspelt one, all at the same distance.

    Args:
        word: a word that no product has, as it was typed.
        vocabulary: words that products have.
        count: how many products have one of them, so that rare words give way to common ones.

    Returns:
        Words within ``max_edits`` that are no codes; empty if there are none, or very many.
    """
    most = max_edits(word)
    if not most:
        return ()
    words = {other for other in vocabulary if max_edits(other) or _is_short_word(other)}
    found: dict[str, int] = {}
    for i, form in enumerate(endings_of(word)):
        cutoff = 1 if i else most
        near = process.extract(form, words, scorer=OSA.distance, score_cutoff=cutoff, limit=None)
        for other, n, _ in near:
            is_short = len(form) < 4 or (i > 0 and len(word) == 4)
            is_likely = i == 0 or other[0] == form[0]
            if is_likely and _may_be_meant(form, other, n, is_short=is_short):
                found[other] = min(n, found.get(other, n))
    least = min(found.values(), default=0)
    alike = sorted(other for other, n in found.items() if n == least)
    if count is not None and len(alike) > 1:
        counts = [count(other) for other in alike]
        enough = max(counts) / MAX_RARITY
        alike = [other for other, n in zip(alike, counts, strict=True) if n >= enough]
    if len(alike) > MAX_ALIKE:
        return ()
    return tuple(other for other in alike if other[0] == word[0]) or tuple(alike)


@lru_cache(maxsize=1 << 16)
def _is_short_word(word: str) -> bool:
    return len(word) == 3 and word.isalpha() and not _is_unspaced(word)


def _may_be_meant(form: str, other: str, n_edits: int, *, is_short: bool) -> bool:
    """Whether a word is a likely spelling of a misspelt one, so many edits away."""
    if is_short:  # another letter, or one more at an end, makes another word: cars are no cards
        is_inside = len(other) > len(form) and form[-1] == other[-1]
        return form[0] == other[0] and (is_inside or sorted(form) == sorted(other))
    # two errors, and the first letter among them, would make too many words alike
    return len(other) > 3 and (n_edits == 1 or other[0] == form[0])


class WordIndex:
    """The words of some products, in memory."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index texts; row i of every answer is text i."""
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(texts), np.float32)
        for row, text in enumerate(texts):
            counts = Counter(words_of(text))
            lengths[row] = counts.total()
            for word, count in counts.items():
                postings[word].append((row, count))
        self._postings = {word: np.array(pairs, np.int64) for word, pairs in postings.items()}
        mean_length = float(lengths.mean()) if len(texts) else 1.0
        self._norms = K1 * (1 - B + B * lengths / max(1.0, mean_length))

    def scores(self, text: str) -> dict[int, float]:
        """BM25 of the products that have a word of a text, by row; those that have all come first.

        Source: Robertson and Zaragoza 2009, equation 3.12, with the idf of Lucene, which is never
            negative.
        """
        query = plan(
            text,
            is_known=self._postings.__contains__,
            similar=lambda word: closest(word, self._postings, count=self._count),
        )
        found: dict[int, float] = defaultdict(float)
        for word in query.words:
            rows, weights = self._weights(word)
            for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
                found[row] += weight
        holders = [
            {row for word in some for row in self._postings[word][:, 0].tolist()}
            for some in query.required
        ]
        lift = max(found.values(), default=0.0) + LIFT
        for row in set.intersection(*holders) if len(holders) > 1 else ():
            found[row] += lift
        return dict(found)

    def _count(self, word: str) -> int:
        return len(self._postings[word])

    def _weights(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows that have a word, and what it adds to their scores."""
        rows, counts = self._postings[word].T
        n_rows = len(self._norms)
        idf = math.log(1 + (n_rows - len(rows) + 0.5) / (len(rows) + 0.5))
        return rows, idf * counts * (K1 + 1) / (counts + self._norms[rows])
