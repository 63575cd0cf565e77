"""Splits that do not depend on order: a name decides alone which part of the data it belongs to."""

import hashlib


def percentile(name: str) -> int:
    """A number in 0…99 that a name always has, whatever other names there are.

    It is the MD5 of the name as an integer, modulo 100. The training data of the built-in model is
    split by this rule.
    """
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 100
