"""One filter over a catalogue's columns (placeholder: the parser and its compilers come next)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was parsed whole."""

    text: str
    """As it was written."""
    sql: str
    """In canonical form."""
