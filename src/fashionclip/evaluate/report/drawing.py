"""Figures as inline SVG: whiskers, a confusion matrix, few-shot curves.

Colours come from the page's own style by class name, so that a drawing follows light, dark and
print. What a drawing shows by colour it also says in words or by shape.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from fashionclip.evaluate.report.wording import count, interval, number, share
from fashionclip.evaluate.results import Figure

NUMBERED_CLASSES = 20
"""A matrix of so many classes or fewer has its numbers written into the cells."""
LONGEST_LABEL = 24
"""Characters of a class name that a matrix shows; the rest is there on hover."""
MARKERS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "M-4-4h8v8h-8z",
    "M0-5.5 5.2 4h-10.4z",
    "M0-6 6 0 0 6-6 0z",
)
"""Shapes of the models' marks: disc, square, triangle, diamond."""
_CHARACTER = 0.62  # width of a letter by its height, for wide typefaces


def whisker(figure: Figure, *, limit: float, style: str = "dot") -> Markup:
    """A figure on a line from 0 to ``limit``: its interval, and a mark at its value.

    Args:
        figure: what to show.
        limit: the value at the right end.
        style: ``dot``, or ``hollow`` for pictures the model was not trained on.
    """
    if math.isnan(figure.value):
        return Markup("")

    def at(value: float) -> str:
        return f"{100 * min(max(value / limit, 0), 1):.2f}%"

    label = f"{number(figure.value)}, 95 % interval {interval(figure)}, n = {count(figure.n)}"
    return Markup(
        '<svg class="whisker {style}" role="img" aria-label="{label}"><title>{label}</title>'
        '<line class="scale" x1="0" x2="100%" y1="9" y2="9"/>'
        '<line class="range" x1="{low}" x2="{high}" y1="9" y2="9"/>'
        '<line class="end" x1="{low}" x2="{low}" y1="5" y2="13"/>'
        '<line class="end" x1="{high}" x2="{high}" y1="5" y2="13"/>'
        '<circle cx="{value}" cy="9" r="4"/></svg>'
    ).format(
        style=style, label=label, low=at(figure.low), high=at(figure.high), value=at(figure.value)
    )


def published_mark(value: float, *, limit: float) -> Markup:
    """A published figure on the same line: a diamond, without an interval."""
    x = f"{100 * min(max(value / limit, 0), 1):.2f}%"
    return Markup(
        '<svg class="whisker published" role="img" aria-label="{label}">'
        '<line class="scale" x1="0" x2="100%" y1="9" y2="9"/>'
        '<svg x="{x}" y="9" overflow="visible"><path d="M0-5 5 0 0 5-5 0z"/></svg></svg>'
    ).format(label=f"{number(value)}, published", x=x)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where a matrix lies: names to the left and above, then square cells."""

    n: int
    longest: int
    """Characters of the longest name that is shown."""

    @property
    def few(self) -> bool:
        return self.n <= NUMBERED_CLASSES

    @property
    def side(self) -> int:
        return 44 if self.few else 13

    @property
    def letter(self) -> float:
        return 12.5 if self.few else 9.5

    @property
    def left(self) -> int:
        return math.ceil(self.longest * self.letter * _CHARACTER) + 12

    @property
    def lean(self) -> int:
        """How far the last column's slanted name stands out to the right."""
        return math.ceil(self.left * 0.72) - 24 if self.few else 8

    @property
    def top(self) -> int:
        return math.ceil(self.left * 0.72) + 16 if self.few else self.left + 14

    @property
    def extent(self) -> int:
        return self.side * self.n


def confusion_matrix(classes: Sequence[str], counts: Int[np.ndarray, "class class"]) -> Markup:
    """A matrix with truth in rows and predictions in columns, each row shaded by its shares.

    Few classes have their counts written in; every cell that is not empty says its count and share
    on hover.
    """
    labels = [_short(name) for name in classes]
    grid = _Grid(len(labels), max(map(len, labels), default=0))
    totals = counts.sum(axis=1)
    cells = [
        _cell(
            grid,
            int(row),
            int(column),
            count=int(counts[row, column]),
            total=int(totals[row]),
            names=(classes[row], classes[column]),
        )
        for row, column in np.argwhere(counts > 0)
    ]
    return Markup(
        '<svg class="matrix {kind}" style="--natural:{width}px" viewBox="0 0 {width} {height}" '
        'role="img" aria-label="Confusion matrix of {n} classes">'
        '<text class="axis" x="{left}" y="10">predicted →</text>'
        '<text class="axis" x="0" y="{under}">truth ↓</text>'
        '<rect class="field" x="{left}" y="{top}" width="{extent}" height="{extent}"/>'
        '<path class="rules" d="{rules}"/>{parts}</svg>'
    ).format(
        kind="few" if grid.few else "many",
        width=grid.left + grid.extent + max(grid.lean, 8),
        height=grid.top + grid.extent + 8,
        n=grid.n,
        left=grid.left,
        top=grid.top,
        under=grid.top - 6,
        extent=grid.extent,
        rules="".join(
            f"M{grid.left} {grid.top + grid.side * k - 0.5}h{grid.extent}"
            f"M{grid.left + grid.side * k - 0.5} {grid.top}v{grid.extent}"
            for k in range(1, grid.n)
        ),
        parts=Markup("").join([*_names(grid, labels), *cells]),
    )


def _names(grid: _Grid, labels: Sequence[str]) -> Iterator[Markup]:
    row = Markup('<text class="name row" x="{x}" y="{y:.1f}">{label}</text>')
    column = Markup(
        '<text class="name" transform="translate({x:.1f} {y}) rotate({slant})">{label}</text>'
    )
    for place, label in enumerate(labels):
        middle = grid.side * (place + 0.5) + grid.letter * 0.35
        yield row.format(x=grid.left - 6, y=grid.top + middle, label=label)
        slant = -45 if grid.few else -90
        yield column.format(x=grid.left + middle, y=grid.top - 6, slant=slant, label=label)


def _cell(
    grid: _Grid, row: int, column: int, *, count: int, total: int, names: tuple[str, str]
) -> Markup:
    # A root lifts the small shares, which are the confusions one looks for, above the ground.
    shade = max(0.06, (count / total) ** 0.6)
    x, y = grid.left + grid.side * column, grid.top + grid.side * row
    text = Markup("")
    if grid.few:
        text = Markup('<text class="{tone}" x="{x}" y="{y}">{count}</text>').format(
            tone="deep" if shade > 0.75 else "middling" if shade > 0.58 else "pale",
            x=x + grid.side / 2,
            y=y + grid.side / 2 + 4.5,
            count=count,
        )
    return Markup(
        "<g><title>{truth} → {predicted}: {count:,} of {total:,} ({share})</title><rect "
        'class="{kind}" x="{x}" y="{y}" width="{side}" height="{side}" fill-opacity="{shade:.2f}"/>'
        "{text}</g>"
    ).format(
        truth=names[0],
        predicted=names[1],
        count=count,
        total=total,
        share=share(count / total),
        kind="right" if row == column else "wrong",
        x=x,
        y=y,
        side=grid.side - 1,
        shade=shade,
        text=text,
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where few-shot curves lie: pictures a class double from tick to tick, F1 is 0 to 1."""

    first: int
    last: int
    left: float = 40.0
    right: float = 624.0
    top: float = 10.0
    bottom: float = 250.0

    def x(self, k: int, place: int = 0) -> float:
        """Models stand side by side, so that no whisker hides another."""
        span = math.log2(self.last / self.first) or 1.0
        room = self.right - self.left - 72
        return self.left + 24 + room * math.log2(k / self.first) / span + 7 * place

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * min(max(value, 0.0), 1.0)


def few_shot_curves(
    curves: Mapping[str, Mapping[int, Figure]], ceilings: Mapping[str, Figure]
) -> Markup:
    """Curves over the number of training pictures a class; empty where there is none.

    Args:
        curves: by model, the figure at each number of pictures.
        ceilings: by model, the figure with all training pictures: a broken line.
    """
    shots = sorted({k for points in curves.values() for k in points})
    if not shots:
        return Markup("")
    frame = _Frame(shots[0], shots[-1])
    parts = [*_grid(frame, shots)]
    for place, (model, points) in enumerate(curves.items()):
        parts.append(Markup('<g class="series s{n}">').format(n=place % len(MARKERS)))
        if model in ceilings:
            parts.append(_ceiling(frame, model, ceilings[model], place))
        known = [(k, points[k]) for k in sorted(points) if not math.isnan(points[k].value)]
        path = " ".join(
            f"{frame.x(k, place):.1f},{frame.y(figure.value):.1f}" for k, figure in known
        )
        parts.append(Markup('<polyline points="{path}"/>').format(path=path))
        parts += [_point(frame, k, figure, model, place) for k, figure in known]
        parts.append(Markup("</g>"))
    return Markup(
        '<svg class="curves" viewBox="0 0 640 296" role="img" '
        'aria-label="Weighted F1 by training pictures a class">{parts}</svg>'
    ).format(parts=Markup("").join(parts))


def marker(place: int) -> Markup:
    """The mark of a model's curve, for a legend: models differ by shape as well as by colour."""
    return Markup(
        '<svg class="marker series s{n}" viewBox="-7 -7 14 14" aria-hidden="true">'
        '<path d="{path}"/></svg>'
    ).format(n=place % len(MARKERS), path=MARKERS[place % len(MARKERS)])


def _grid(frame: _Frame, shots: Sequence[int]) -> Iterator[Markup]:
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
            '<text x="{beside}" y="{under}" text-anchor="end">{tick}</text>'
        ).format(
            left=frame.left,
            right=frame.right,
            y=frame.y(tick),
            beside=frame.left - 8,
            under=frame.y(tick) + 4,
            tick=tick,
        )
    text = Markup('<text x="{x:.1f}" y="{y}" text-anchor="middle">{text}</text>')
    for k in shots:
        yield text.format(x=frame.x(k), y=frame.bottom + 20, text=k)
    middle = (frame.left + frame.right) / 2
    yield text.format(x=middle, y=frame.bottom + 41, text="training pictures a class")


def _ceiling(frame: _Frame, model: str, figure: Figure, place: int) -> Markup:
    return Markup(
        '<line class="ceiling" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}">'
        "<title>{model}, all training pictures: {value}</title></line>"
        '<path transform="translate({right} {y:.1f})" d="{path}"/>'
    ).format(
        left=frame.left,
        right=frame.right,
        y=frame.y(figure.value),
        model=model,
        value=number(figure.value),
        path=MARKERS[place % len(MARKERS)],
    )


def _point(frame: _Frame, k: int, figure: Figure, model: str, place: int) -> Markup:
    return Markup(
        '<g transform="translate({x:.1f} 0)"><title>{model}, {k} a class: {value}, 95 % interval '
        '{interval}</title><line class="range" y1="{high:.1f}" y2="{low:.1f}"/>'
        '<path transform="translate(0 {y:.1f})" d="{path}"/></g>'
    ).format(
        x=frame.x(k, place),
        model=model,
        k=k,
        value=number(figure.value),
        interval=interval(figure),
        high=frame.y(figure.high),
        low=frame.y(figure.low),
        y=frame.y(figure.value),
        path=MARKERS[place % len(MARKERS)],
    )


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
