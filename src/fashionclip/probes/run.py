"""Probes by name, and models on them: each probe is a job of an evaluation's loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import MappingProxyType

from fashionclip.errors import EvaluationError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.leakage import LeakageCheck
from fashionclip.evaluate.results import Run, TaskResult
from fashionclip.evaluate.run import Job, OpenEncoder, ProgressCallback, measure_models
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.probes.captions import half_truths, hard_positives, negation, swapped_parts
from fashionclip.probes.figures import MIN_ITEMS
from fashionclip.probes.pairs import CaptionProbe, score_captions
from fashionclip.probes.products import ProductSet
from fashionclip.probes.scenes import counting, swapped_colours
from fashionclip.probes.sensitivity import SensitivityProbe, score_sensitivity, sensitivity
from fashionclip.probes.typographic import TypographicProbe, score_typographic, typographic

Probe = CaptionProbe | TypographicProbe | SensitivityProbe

_DIFFER = (
    "products of the same category that differ in colour, pattern, sleeve, neckline or material, "
    "in words that are each right for 10 products"
)
NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "swap": "products whose attributes name two parts, such as 'Strap Material' and 'Dial "
        "Material'",
        "half-truth": _DIFFER,
        "hard-positives": _DIFFER,
        "negation": "products of the same category with and without sleeves, a hood or a pattern, "
        "or of two colours",
        "counting": "drawn scenes: no catalogue says how many garments a picture shows, so run it "
        "without --catalog",
        "typographic": "products of two categories, and of two brands, in words short enough to "
        "be printed, in unaccented Latin letters",
        "sensitivity": "queries of a colour, pattern or sleeve and a category that 5 products "
        "answer",
    }
)
"""Every probe by name, and what it is made of."""
_NO_CATEGORY = " (no product has a category: name the column with --column category=NAME)"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The probes that a set of products allows."""

    jobs: tuple[Job, ...]
    missing: Mapping[str, str]
    """Probes that are left out, each with one line on what they need."""


def plan_probes(
    products: ProductSet,
    only: Sequence[str] = (),
    *,
    policy: FetchPolicy = DEFAULT_POLICY,
) -> Plan:
    """Make the probes of a set of products.

    Args:
        products: drawn ones, or those of a catalogue.
        only: names of ``NEEDS``; none means all.
        policy: how remote images may be fetched.

    Raises:
        EvaluationError: there is no probe of a name.
    """
    check_names(only)
    makers: dict[str, Callable[[], Sequence[Probe]]] = {
        "swap": swapped_colours if products.is_drawn else partial(swapped_parts, products),
        "half-truth": partial(half_truths, products),
        "hard-positives": partial(hard_positives, products),
        "negation": partial(negation, products),
        "counting": counting if products.is_drawn else list,
        "typographic": partial(typographic, products, policy),
        "sensitivity": partial(sensitivity, products),
    }
    mend = "" if any(product.garment for product in products.products) else _NO_CATEGORY
    jobs: list[Job] = []
    missing: dict[str, str] = {}
    for name, make in makers.items():
        if only and name not in only:
            continue
        probes = make()
        for probe in probes:
            if (n := _size(probe)) < MIN_ITEMS:
                missing[probe.name] = f"needs {MIN_ITEMS} {NEEDS[name]}; there {_are(n)}{mend}"
            else:
                jobs.append(_job(probe, products.warnings))
        if not probes:
            missing[f"{products.name}/{name}"] = f"needs {NEEDS[name]}"
    return Plan(tuple(jobs), missing)


def check_names(names: Sequence[str]) -> None:
    """Refuse names that no probe has.

    Raises:
        EvaluationError: there is no probe of a name.
    """
    for name in names:
        if name not in NEEDS:
            close = get_close_matches(name, NEEDS, n=1)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            message = f"there is no probe '{name}'{meant}; there are {', '.join(NEEDS)}"
            raise EvaluationError(message)


def probe_models(
    models: Iterable[FashionCLIP],
    plan: Plan,
    *,
    cache: Path | None = None,
    policy: FetchPolicy | None = None,
    open_encoder: OpenEncoder | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Run, dict[str, str]]:
    """Measure models by probes.

    Args:
        models: opened one after the other, if this is a generator.
        plan: the probes.
        cache: folder for vectors, shared with evaluations; None keeps nothing.
        policy: how remote images may be fetched.
        open_encoder: as for ``evaluate_models``.
        progress: called as images get done.

    Returns:
        The run, and the images its report shows: data URIs by ``<probe>/<image_id>``.

    Raises:
        EvaluationError: no probe can be made; or as ``measure_models``.
    """
    if not plan.jobs:
        reasons = "; ".join(f"{name} {reason}" for name, reason in plan.missing.items())
        message = f"no probe can be made: {reasons}"
        raise EvaluationError(message)
    return measure_models(
        models,
        plan.jobs,
        missing=plan.missing,
        title="Probes",
        cache=cache,
        policy=policy,
        open_encoder=open_encoder,
        progress=progress,
    )


def baseline_of(headline: str) -> str:
    """The figure that a probe's headline stands beside: of a model that cannot see or read.

    Args:
        headline: ``right_first`` or ``flips@6``; the sensitivity has none.
    """
    base, at, size = headline.partition("@")
    names = {"flips": f"flips_shuffled{at}{size}", "right_first": "text_only"}
    return names.get(base, "")


def _size(probe: Probe) -> int:
    """How many items a probe has."""
    match probe:
        case CaptionProbe():
            return probe.n_items
        case TypographicProbe():
            return len(probe.pictures)
        case SensitivityProbe():
            return len(probe.queries)


def _are(n: int) -> str:
    return "is 1" if n == 1 else f"are {n or 'none'}"


def _job(probe: Probe, warnings: tuple[str, ...]) -> Job:
    def score(encoder: CachedEncoder, check: LeakageCheck | None) -> TaskResult:
        seen = None
        if check:
            seen = check.mark(_marked(probe), encoder.digests(_marked(probe)))
        match probe:
            case CaptionProbe():
                result = score_captions(probe, encoder, seen=seen)
            case TypographicProbe():
                result = score_typographic(probe, encoder, seen=seen)
            case SensitivityProbe():
                result = score_sensitivity(probe, encoder, seen=seen)
        return replace(result, warnings=(*warnings, *result.warnings))

    images = probe.images if isinstance(probe, TypographicProbe) else _marked(probe)
    return Job(probe.name, images, score)


def _marked(probe: Probe) -> tuple[ImageRef, ...]:
    """The pictures that a model may have been trained on, one an entry of the probe."""
    match probe:
        case CaptionProbe():
            return tuple(contest.image for contest in probe.contests)
        case TypographicProbe():
            return tuple(picture.product.image for picture in probe.pictures)
        case SensitivityProbe():
            return probe.documents
