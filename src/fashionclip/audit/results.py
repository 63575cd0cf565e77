"""The results of audits: figures with intervals and with what would be there by chance.

``audit.json`` in the folder of an audit has all of it, and is what ``--json`` prints.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashionclip.errors import EvaluationError

FORMAT = 1
"""Raised when an older fashionclip could not read what a newer one writes."""
AUDIT_NAME = "audit.json"


@dataclass(frozen=True, slots=True)
class AuditFigure:
    """One measured number, its uncertainty, and the level that it has to be compared with."""

    name: str
    """Such as ``skew_men@10``; unique in its audit."""
    title: str
    """The same for people: ``Skew towards men's products, first 10``."""
    value: float
    low: float
    """Lower end of the 95 % bootstrap interval over what ``unit`` names."""
    high: float
    n: int
    unit: str
    """What ``n`` counts: ``products``, ``article types``."""
    meaning: str
    """One clause without a full stop: how to read it."""
    chance: float | None = None
    """Its value where the model knew nothing of it; None where there is no such level."""
    chance_low: float | None = None
    """95 % of what shuffled labels gave are between this and ``chance_high``."""
    chance_high: float | None = None
    p: float | None = None
    """Two-sided, of shuffled labels."""


@dataclass(frozen=True, slots=True)
class AuditTable:
    """Rows behind the figures of an audit: by article type, by ground."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


@dataclass(frozen=True, slots=True)
class AuditResult:
    """One audit of one model on one catalogue."""

    name: str
    question: str
    figures: tuple[AuditFigure, ...] = ()
    tables: tuple[AuditTable, ...] = ()
    notes: tuple[str, ...] = ()
    """How it was measured on this catalogue."""
    left_out: tuple[str, ...] = ()
    """What could not be measured, and why; an audit without figures says here why it has none."""
    pictures: tuple[tuple[str, str], ...] = ()
    """Captions and data URIs of examples, for the page alone."""


@dataclass(frozen=True, slots=True)
class AuditRun:
    """All audits of one command."""

    model: str
    fingerprint: str
    engine: str
    """Device and precision: ``cpu bfloat16``."""
    catalogue: str
    """Name of the table or folder."""
    n_products: int
    """Products whose pictures could be read."""
    n_rejected: int
    """Rows and pictures that could not be used."""
    n_seen: int
    """Products whose pictures are files of the model's training data, as far as that is known."""
    audits: tuple[AuditResult, ...]
    notes: tuple[str, ...]
    seconds: float
    encoding_seconds: float
    """Of ``seconds``, decoding and encoding; little where a cache had the vectors."""
    created: str
    """ISO date and time, UTC."""
    version: str
    """Of this package."""

    def figure(self, audit: str, name: str) -> AuditFigure | None:
        """One figure by its audit's name and its own; None if it was not measured."""
        found = (f for a in self.audits if a.name == audit for f in a.figures if f.name == name)
        return next(found, None)


def audit_fields(run: AuditRun) -> dict[str, Any]:
    """A run as plain values for JSON, without the pictures; null stands for NaN."""
    fields = {"format": FORMAT, **asdict(run)}
    for audit in fields["audits"]:
        del audit["pictures"]
    plain: dict[str, Any] = _plain(fields)
    return plain


def read_audit(path: str | Path) -> AuditRun:
    """Read ``audit.json``, from its path or from its folder.

    Raises:
        EvaluationError: there is none, it is damaged, or a newer fashionclip wrote it.
    """
    path = Path(path)
    file = path / AUDIT_NAME if path.is_dir() else path
    try:
        fields = json.loads(file.read_bytes())
        if fields["format"] > FORMAT:
            message = f"{file} has a newer format than this fashionclip reads: upgrade fashionclip"
            raise EvaluationError(message)
        return _run_of(fields)
    except OSError as exc:
        message = f"{file} cannot be read ({exc.strerror}); make it with: fashionclip audit --out"
        raise EvaluationError(message) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        message = f"{file} is not the JSON of 'fashionclip audit', or it is damaged; audit again"
        raise EvaluationError(message) from exc


def _run_of(fields: Mapping[str, Any]) -> AuditRun:
    audits = tuple(
        AuditResult(
            name=audit["name"],
            question=audit["question"],
            figures=tuple(_figure(figure) for figure in audit["figures"]),
            tables=tuple(
                AuditTable(t["title"], tuple(t["head"]), tuple(map(tuple, t["rows"])))
                for t in audit["tables"]
            ),
            notes=tuple(audit["notes"]),
            left_out=tuple(audit["left_out"]),
        )
        for audit in fields["audits"]
    )
    known = {name: fields[name] for name in AuditRun.__dataclass_fields__}
    return AuditRun(**{**known, "audits": audits, "notes": tuple(fields["notes"])})


def _figure(fields: Mapping[str, Any]) -> AuditFigure:
    ends = {n: math.nan if fields[n] is None else fields[n] for n in ("value", "low", "high")}
    return AuditFigure(**{**fields, **ends})


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
