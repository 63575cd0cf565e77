"""Selection rules as data, and what each would have cost on a set left out.

A rule uses the candidates' scores on development images alone. To estimate its value, each set is
left out in turn: the rule selects by the other sets, and its choice is compared with the best
candidate on the set left out, and with the start. What is compared are the same scores, or those on
test images, where a comparison of rules has measured every candidate on them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fashionclip.train.selection.candidates import Candidate, Kind
from fashionclip.train.selection.suite import Scores

POINTS = 100.0
"""Scores lie in 0…1; differences are reported in points of a hundredth."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A candidate with its scores."""

    candidate: Candidate
    scores: Scores


@dataclass(frozen=True, slots=True, eq=False)
class SelectionContext:
    """What a rule may use besides a candidate's scores."""

    start: Scores
    sets: tuple[str, ...]
    """The sets that are not left out."""

    def out_of_domain(self, scores: Scores) -> float:
        """Mean over the sets that are not left out."""
        return sum(scores.sets[name] for name in self.sets) / len(self.sets)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Selects the candidate of some kinds with the highest value; the first of equal ones."""

    description: str
    """What it selects, in a phrase."""
    among: tuple[Kind, ...]
    value: Callable[[Scored, SelectionContext], float]

    def choose(self, scored: Sequence[Scored], context: SelectionContext) -> Scored:
        """Select the best candidate; the start if there is none of these kinds."""
        possible = [s for s in scored if s.candidate.kind in self.among] or list(scored[:1])
        return max(possible, key=lambda s: self.value(s, context))


def _guarded(scored: Scored, context: SelectionContext) -> float:
    """In-domain retrieval, if the mean over the sets is not below the start's."""
    is_worse = context.out_of_domain(scored.scores) < context.out_of_domain(context.start)
    return float("-inf") if is_worse else scored.scores.in_domain


_CHECKPOINTS: tuple[Kind, ...] = ("checkpoint",)
_ALL: tuple[Kind, ...] = ("start", "checkpoint", "average", "interpolation")
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "start": Rule("the untouched start: no tuning at all", ("start",), lambda s, context: 0.0),
        "last": Rule(
            "the last checkpoint", _CHECKPOINTS, lambda s, context: float(s.candidate.step)
        ),
        "validation-loss": Rule(
            "the checkpoint with the lowest loss on held-out pairs",
            _CHECKPOINTS,
            lambda s, context: -s.scores.validation_loss,
        ),
        "retrieval": Rule(
            "the checkpoint with the best retrieval on held-out pairs",
            _CHECKPOINTS,
            lambda s, context: s.scores.in_domain,
        ),
        "average": Rule(
            "the average of the last checkpoints", ("average",), lambda s, context: 0.0
        ),
        "out-of-domain": Rule(
            "the candidate of any kind with the best mean over the sets",
            _ALL,
            lambda s, context: context.out_of_domain(s.scores),
        ),
        "both": Rule(
            "the candidate of any kind with the best mean of retrieval and the sets' mean",
            _ALL,
            lambda s, context: s.scores.in_domain + context.out_of_domain(s.scores),
        ),
        "guarded": Rule(
            "the candidate of any kind with the best retrieval on held-out pairs whose mean over "
            "the sets is not below the start's",
            _ALL,
            _guarded,
        ),
    }
)
"""Every value of ``selection.rule``, the simplest first."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A rule's choice by the other sets, measured on the set left out."""

    chosen: str
    cost: float
    """Points below the best candidate on this set; 0 at best."""
    against_start: float
    """Points above the start; negative if below."""


@dataclass(frozen=True, slots=True)
class RuleRow:
    """What a rule would have cost on each set left out."""

    rule: str
    chosen: str
    """The choice by all sets."""
    sets: Mapping[str, LeftOut]
    """By the set left out."""
    in_domain_cost: float
    """Points of held-out retrieval below the best candidate."""
    in_domain_gain: float
    """Points of held-out retrieval above the start."""

    @property
    def mean_cost(self) -> float:
        """Over the sets left out, in points."""
        return sum(left.cost for left in self.sets.values()) / len(self.sets)

    @property
    def worst_cost(self) -> float:
        """The largest cost on a set, in points."""
        return max(left.cost for left in self.sets.values())

    @property
    def worst_against_start(self) -> float:
        """The lowest difference from the start on a set, in points."""
        return min(left.against_start for left in self.sets.values())


def leave_one_set_out(
    scored: Sequence[Scored], measured: Sequence[Scores] | None = None
) -> tuple[RuleRow, ...]:
    """The table of all rules, in the order of ``RULES``.

    Args:
        scored: the candidates, the start first. With a single set, rules select by that set itself,
            so their cost is not that of an unseen set.
        measured: the scores that costs and gains are computed from, one of each candidate: on test
            images of the same sets, which no rule sees. None takes those that rules select by.

    Raises:
        ValueError: there are more or fewer of them than candidates.
    """
    start = scored[0].scores
    of = [one.scores for one in scored] if measured is None else measured
    by_name = {s.candidate.name: found for s, found in zip(scored, of, strict=True)}
    sets = tuple(start.sets)
    best = {name: max(found.sets[name] for found in of) for name in sets}
    best_in_domain = max(found.in_domain for found in of)
    rows = []
    for name, rule in RULES.items():
        chosen = rule.choose(scored, SelectionContext(start, sets)).candidate.name
        left_out = {}
        for hidden in sets:
            others = tuple(other for other in sets if other != hidden) or sets
            choice = rule.choose(scored, SelectionContext(start, others)).candidate.name
            value = by_name[choice].sets[hidden]
            cost, gain = POINTS * (best[hidden] - value), POINTS * (value - of[0].sets[hidden])
            left_out[hidden] = LeftOut(choice, cost, against_start=gain)
        in_domain = by_name[chosen].in_domain
        rows.append(
            RuleRow(
                rule=name,
                chosen=chosen,
                sets=left_out,
                in_domain_cost=POINTS * (best_in_domain - in_domain),
                in_domain_gain=POINTS * (in_domain - of[0].in_domain),
            )
        )
    return tuple(rows)
