"""The figures of a selection, drawn: over the steps, and inside against outside the domain."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fashionclip.errors import MissingExtraError
from fashionclip.train.selection.rules import POINTS, Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (12.0, 4.4)
_STYLE: Any = {
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "fashionclip",  # the same figures, the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}
_INSIDE, _OUTSIDE, _SETS = "#0b6e99", "#b3441e", "#8a8a8a"
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_curves(candidates: Sequence[Scored], chosen: Scored) -> bytes:
    """Draw a selection as SVG.

    Left: points against the start over the steps, in the domain, on each set, and the sets' mean.
    Middle: loss on held-out pairs. Right: every candidate, in-domain retrieval against the mean
    over the sets, interpolations joined by a line.

    Args:
        candidates: the start first.
        chosen: one of them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as exc:
        message = "curves are drawn by matplotlib: pip install 'fashionclip[train]'"
        raise MissingExtraError(message) from exc
    with rc_context(_STYLE):
        figure = Figure(figsize=INCHES, layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 0.8, 1.25))
        run = [s for s in candidates if s.candidate.kind in {"start", "checkpoint"}]
        _draw_points(left, run)
        steps = [s.candidate.step for s in run]
        middle.plot(steps, [s.scores.validation_loss for s in run], "o-", color="#555555", ms=4)
        middle.set(title="Loss on held-out pairs", xlabel="step", ylabel="nats, lower is better")
        _draw_trade(right, candidates, chosen)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "fashionclip"})
        return file.getvalue()


def _draw_points(axes: "Axes", run: Sequence[Scored]) -> None:
    steps, start = [s.candidate.step for s in run], run[0].scores
    for place, name in enumerate(start.sets):
        values = [POINTS * (s.scores.sets[name] - start.sets[name]) for s in run]
        marker = _MARKERS[place % len(_MARKERS)]
        axes.plot(steps, values, color=_SETS, marker=marker, ms=4, lw=0.8, label=name)
    outside = [POINTS * (s.scores.out_of_domain - start.out_of_domain) for s in run]
    inside = [POINTS * (s.scores.in_domain - start.in_domain) for s in run]
    axes.plot(steps, outside, color=_OUTSIDE, lw=2.2, label="mean of the sets")
    axes.plot(steps, inside, color=_INSIDE, lw=2.2, ls="--", label="held-out retrieval")
    axes.axhline(0, color="black", lw=0.8)
    axes.set(title="Points against the start", xlabel="step")
    axes.legend(fontsize=8, frameon=False)


def _draw_trade(axes: "Axes", candidates: Sequence[Scored], chosen: Scored) -> None:
    start = candidates[0].scores

    def at(scored: Scored) -> tuple[float, float]:
        return POINTS * scored.scores.in_domain, POINTS * scored.scores.out_of_domain

    looks = {
        "start": ("*", 140, "black"),
        "checkpoint": ("o", 28, _INSIDE),
        "average": ("s", 36, _INSIDE),
        "interpolation": ("D", 16, _OUTSIDE),
    }
    lines: dict[str, list[Scored]] = {}
    for scored in candidates:
        if scored.candidate.kind == "interpolation":
            lines.setdefault(scored.candidate.name.partition(" of ")[2], []).append(scored)
    ends = {scored.candidate.name: scored for scored in candidates}
    for end, between in lines.items():
        path = [at(candidates[0]), *(at(s) for s in between), at(ends[end])]
        axes.plot(*zip(*path, strict=True), color=_SETS, lw=0.8, zorder=1)
    for kind, (marker, size, colour) in looks.items():
        some = [at(s) for s in candidates if s.candidate.kind == kind]
        if some:
            xs, ys = zip(*some, strict=True)
            axes.scatter(xs, ys, marker=marker, s=size, color=colour, label=kind, zorder=2)
    x, y = at(chosen)
    axes.scatter([x], [y], s=160, facecolors="none", edgecolors="black", lw=1.4, zorder=3)
    axes.annotate(f"chosen: {chosen.candidate.name}", (x, y), (6, 8), textcoords="offset points")
    axes.axhline(POINTS * start.out_of_domain, color="black", lw=0.8, ls=":")
    axes.set(
        title="Inside against outside", xlabel="held-out recall@10", ylabel="mean of the sets, F1"
    )
    axes.legend(fontsize=8, frameon=False)
