"""Sliders for changes of a search: "shorter" at one end, "longer" at the other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fashionclip.searching import Results
from fashionclip.searching.comparatives import read_change
from fashionclip.serve.page.rendering import sentence

PREFIX = "but."
"""Before a slider's name in a URL that a form without script made."""
STEPS = 2
"""Of a slider to either side: "longer", "much longer"."""
_ENDS = {
    "length": ("Length", "shorter", "longer"),
    "shade": ("Shade", "darker", "lighter"),
    "formality": ("Formality", "more casual", "more formal"),
    "colours": ("Colours", "duller", "brighter"),
}


@dataclass(frozen=True, slots=True)
class Slider:
    """A change from one end to the other."""

    name: str
    label: str
    low: str
    """The change at the low end."""
    high: str
    value: int = 0
    """In -``STEPS``…``STEPS``; 0 changes nothing."""

    def text(self, value: int) -> str:
        """The change that a value stands for; empty for 0."""
        if not value:
            return ""
        return f"{'much ' if abs(value) > 1 else ''}{self.low if value < 0 else self.high}"

    @property
    def ends(self) -> tuple[str, str]:
        """What is written below the low and the high end."""
        return self.low.removeprefix("more "), self.high.removeprefix("more ")

    @property
    def texts(self) -> list[str]:
        """The change of each value, from the lowest on."""
        return [self.text(value) for value in range(-STEPS, STEPS + 1)]


def sliders(changes: Iterable[str]) -> list[Slider]:
    """All sliders, set as some changes say."""
    asked = frozenset(changes)
    found = []
    for name, (label, low, high) in _ENDS.items():
        slider = Slider(name, label, low, high)
        values = [n for n in range(-STEPS, STEPS + 1) if n and slider.text(n) in asked]
        found.append(Slider(name, label, low, high, values[0] if values else 0))
    return found


def slider_changes(values: Mapping[str, str]) -> list[str]:
    """The changes of the sliders in a URL's query, as a form without script sends them."""
    found = []
    for slider in sliders(()):
        text = values.get(PREFIX + slider.name, "")
        if text.removeprefix("-").isdecimal() and len(text) < 3 and abs(int(text)) <= STEPS:
            found.append(slider.text(int(text)))
    return [text for text in found if text]


def own_changes(changes: Sequence[str]) -> list[str]:
    """Those of some changes that no slider stands for."""
    of_sliders = {slider.text(slider.value) for slider in sliders(changes)}
    return [text for text in changes if text not in of_sliders]


def understood(changes: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Those of some changes that are understood, and notices about the others."""
    kept, notices = [], []
    for text in changes:
        try:
            read_change(text)
        except ValueError as exc:
            notices.append(sentence(f"{exc}; it is ignored"))
        else:
            kept.append(text)
    return tuple(kept), notices


def changed_line(page: Results) -> str:
    """What a search changed and which category it kept, as a sentence; empty for nothing."""
    if not page.changes:
        return ""
    made = "; ".join(f"from “{one.before}” to “{one.after}”" for one in page.changes)
    if page.kept is None:
        return sentence(made)
    return sentence(f"{made}. Category kept: {', '.join(map(str, page.kept.values))}")
