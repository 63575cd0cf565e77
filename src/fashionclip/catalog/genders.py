"""For whom a product is, from a cell of the column with the role ``gender``."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

Gender = Literal["women", "men", "unisex"]
GENDERS: tuple[Gender, ...] = get_args(Gender)

_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        gender: frozenset(words.split())
        for gender, words in tomllib.loads(
            Path(__file__).with_name("values.toml").read_text(encoding="utf-8")
        )["genders"].items()
    }
)
_WORD = re.compile(r"[^\W\d_]+")


def gender_of(value: object) -> Gender | None:
    """Read a cell such as ``Women``, ``Adults-Men``, ``female`` or ``For her``.

    Girls' products are women's and boys' are men's, as in product feeds, which have age in another
    column. A value with words of both is unisex.

    Returns:
        None for an empty cell, and for one without a word that is known.
    """
    if not isinstance(value, str):
        return None
    words = set(_WORD.findall(value.casefold()))
    found = {gender for gender in GENDERS if words & _WORDS[gender]}
    if "unisex" in found or len(found) > 1:
        return "unisex"
    return next(iter(found), None)
