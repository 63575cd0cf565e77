"""Ways to choose a checkpoint, as data, and what each would have cost on a set left out.

A rule sees candidates' scores on development pictures, and nothing else. To learn what it is
worth, each set is left out in turn: the rule chooses by the others, and its choice is held
against the best that the set left out had to offer, and against the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fashionclip.errors import TrainingError
from fashionclip.train.selection.candidates import Candidate, Kind
from fashionclip.train.selection.scoring import Scores

POINTS = 100.0
"""Scores are shares of 1; their differences are told in points of a hundredth."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A candidate with what it came to."""

    candidate: Candidate
    scores: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What a rule may look at."""

    start: Scores
    sets: tuple[str, ...]
    """The sets that are not left out."""

    def outside(self, scores: Scores) -> float:
        """Mean over the sets in sight."""
        return sum(scores.sets[name] for name in self.sets) / len(self.sets)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """The candidate of some kinds with the highest value; of equal ones the first."""

    words: str
    """What it takes, as one would say it."""
    among: frozenset[Kind]
    value: Callable[[Scored, Sight], float]

    def choose(self, scored: Sequence[Scored], sight: Sight) -> Scored:
        """Take the best; where there is none of its kinds, the start."""
        possible = [s for s in scored if s.candidate.kind in self.among] or list(scored[:1])
        return max(possible, key=lambda s: self.value(s, sight))


def _guarded(scored: Scored, sight: Sight) -> float:
    """In-domain retrieval, but never at the price of what the start could do elsewhere."""
    fallen = sight.outside(scored.scores) < sight.outside(sight.start)
    return float("-inf") if fallen else scored.scores.in_domain


_RUN = frozenset[Kind]({"checkpoint"})
_ALL = frozenset[Kind]({"start", "checkpoint", "average", "interpolation"})
DEFAULT_RULE = "guarded"
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "start": Rule(
            "the untouched start: no tuning at all",
            frozenset[Kind]({"start"}),
            lambda scored, sight: 0.0,
        ),
        "last": Rule(
            "the last checkpoint",
            _RUN,
            lambda scored, sight: float(scored.candidate.step),
        ),
        "validation-loss": Rule(
            "the checkpoint with the lowest loss on held-out pairs",
            _RUN,
            lambda scored, sight: -scored.scores.validation_loss,
        ),
        "retrieval": Rule(
            "the checkpoint with the best retrieval on held-out pairs",
            _RUN,
            lambda scored, sight: scored.scores.in_domain,
        ),
        "average": Rule(
            "the average of the last checkpoints",
            frozenset[Kind]({"average"}),
            lambda scored, sight: float(scored.candidate.step),
        ),
        "out-of-domain": Rule(
            "the candidate of any kind with the best mean over the sets",
            _ALL,
            lambda scored, sight: sight.outside(scored.scores),
        ),
        "both": Rule(
            "the candidate of any kind with the best mean of retrieval and the sets' mean",
            _ALL,
            lambda scored, sight: scored.scores.in_domain + sight.outside(scored.scores),
        ),
        DEFAULT_RULE: Rule(
            "the candidate of any kind with the best retrieval on held-out pairs whose mean over "
            "the sets is not below the start's",
            _ALL,
            _guarded,
        ),
    }
)
"""Every rule by its name, from the most naive on."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A rule's choice without one set, on that set."""

    set_name: str
    chosen: str
    cost: float
    """Points that the best candidate for this set has more; 0 at best."""
    against_start: float
    """Points more than the start, or fewer."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a rule would have cost."""

    rule: str
    chosen: str
    """By all sets."""
    left_out: tuple[LeftOut, ...]
    in_domain_cost: float
    """Points of retrieval on held-out pairs that the best candidate has more than ``chosen``."""
    in_domain_gain: float
    """Points of it that ``chosen`` has more than the start."""

    @property
    def mean_cost(self) -> float:
        """Over the sets left out, in points."""
        return sum(left.cost for left in self.left_out) / len(self.left_out)

    @property
    def worst_cost(self) -> float:
        """On the set where it cost most, in points."""
        return max(left.cost for left in self.left_out)

    @property
    def worst_against_start(self) -> float:
        """On the set where the choice did worst against the start, in points."""
        return min(left.against_start for left in self.left_out)


def find_rule(name: str) -> Rule:
    """A rule by its name.

    Raises:
        TrainingError: there is none.
    """
    if name in RULES:
        return RULES[name]
    message = f"no rule of selection is called '{name}'; there are {', '.join(RULES)}"
    raise TrainingError(message)


def leave_one_set_out(scored: Sequence[Scored]) -> tuple[Row, ...]:
    """Each rule's row of the table, in the order of ``RULES``.

    Args:
        scored: the candidates, the start first. With a single set there is nothing to choose by
            when it is left out; rules that look at sets then choose by that set itself, and their
            cost is no longer that of a set they have not seen.
    """
    start = scored[0].scores
    sets = tuple(start.sets)
    best = {name: max(s.scores.sets[name] for s in scored) for name in sets}
    best_inside = max(s.scores.in_domain for s in scored)
    rows = []
    for name, rule in RULES.items():
        chosen = rule.choose(scored, Sight(start, sets))
        left_out = []
        for hidden in sets:
            others = tuple(other for other in sets if other != hidden) or sets
            choice = rule.choose(scored, Sight(start, others))
            value = choice.scores.sets[hidden]
            left_out.append(
                LeftOut(
                    set_name=hidden,
                    chosen=choice.candidate.name,
                    cost=POINTS * (best[hidden] - value),
                    against_start=POINTS * (value - start.sets[hidden]),
                )
            )
        rows.append(
            Row(
                rule=name,
                chosen=chosen.candidate.name,
                left_out=tuple(left_out),
                in_domain_cost=POINTS * (best_inside - chosen.scores.in_domain),
                in_domain_gain=POINTS * (chosen.scores.in_domain - start.in_domain),
            )
        )
    return tuple(rows)
