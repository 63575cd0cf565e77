"""The cost of a run: time, energy, CO2 and money, in ``cost.json``.

Each call of ``fashionclip train`` is a session; the cost of a run is the sum over its sessions.
Energy comes from codecarbon's offline tracker. Where the machine's power counters cannot be read,
its power is an estimate, and ``cost.json`` says so.
"""

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fashionclip.atomic import write_whole
from fashionclip.errors import TrainingError
from fashionclip.train.recipe import CostConfig
from fashionclip.train.run import RunFolder

NAME = "cost.json"
_ANY_COUNTRY = "USA"  # the tracker needs one; its CO2 is discarded if the recipe has none
_MEASURED_CPU = {"intel_rapl": "RAPL counters", "intel_power_gadget": "Intel Power Gadget"}
_ESTIMATED_CPU = {
    "cpu_load": "an estimate from the processor's load and its model's typical power",
    "constant": "an estimate: a constant for the processor's model",
}


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of a session so far."""

    kwh: float
    co2_kg: float | None
    """None if the recipe has no country."""
    hardware: str
    power: str
    """Where the power comes from: counters, or an estimate and its kind."""


class CostMeter:
    """Measures a session, from its construction to ``stop``."""

    def __init__(self, run: RunFolder, cost: CostConfig) -> None:
        """Start the session.

        Raises:
            TrainingError: the country is unknown.
        """
        self._run, self._cost = run, cost
        self._begun = time.perf_counter()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = _sessions(run)
        self._tracker = _start_tracker(cost.country)

    def save(self) -> dict[str, Any]:
        """Write the cost of the run so far, and return it.

        Raises:
            TrainingError: the folder cannot be written.
        """
        has_country = bool(self._cost.country)
        energy = self._tracker.energy(has_country=has_country) if self._tracker else None
        session: dict[str, Any] = {
            "started": self._started,
            "seconds": time.perf_counter() - self._begun,
            "energy_kwh": energy.kwh if energy else None,
            "co2_kg": energy.co2_kg if energy else None,
        }
        found = _total([*self._earlier, session], self._cost) | {
            "hardware": energy.hardware if energy else "",
            "power": energy.power
            if energy
            else "unknown: codecarbon is not installed, or cannot measure this machine",
            "tracker": f"codecarbon {version('codecarbon')}" if energy else "",
        }
        try:
            write_whole(self._run.root / NAME, json.dumps(found, indent=2).encode())
        except OSError as exc:
            message = f"{self._run.root / NAME} cannot be written ({exc.strerror}); make room"
            raise TrainingError(message) from exc
        return found

    def stop(self) -> dict[str, Any]:
        """End the session.

        Raises:
            TrainingError: the folder cannot be written.
        """
        found = self.save()
        if self._tracker is not None:
            self._tracker.library.stop()
        return found


def read_cost(run: RunFolder) -> dict[str, Any]:
    """Read ``cost.json``; empty if it is missing or damaged."""
    try:
        found = json.loads((run.root / NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _sessions(run: RunFolder) -> list[dict[str, Any]]:
    found = read_cost(run).get("sessions", [])
    return [dict(session) for session in found]


def _total(sessions: list[dict[str, Any]], cost: CostConfig) -> dict[str, Any]:
    """The sum over all sessions; None for a quantity that one of them lacks."""

    def total(name: str) -> float | None:
        values = [session[name] for session in sessions]
        return None if None in values else sum(values)

    seconds = total("seconds") or 0.0
    return {
        "seconds": seconds,
        "energy_kwh": total("energy_kwh"),
        "co2_kg": total("co2_kg"),
        "country": cost.country,
        "money": seconds / 3600 * cost.price if cost.price else None,
        "price_per_hour": cost.price or None,
        "currency": cost.currency,
        "sessions": sessions,
    }


class _Tracker:
    """Codecarbon's offline tracker, without output."""

    def __init__(self, country: str) -> None:
        """Start it.

        Raises:
            ImportError: codecarbon is not installed.
            TrainingError: the country is unknown.
        """
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
        from codecarbon.output_methods.base_output import BaseOutput

        countries = DataSource().get_global_energy_mix_data()  # type: ignore[no-untyped-call]
        if country and country not in countries:
            message = f"cost.country is '{country}'; write ISO 3166's three letters, such as DEU"
            raise TrainingError(message)
        self.last: Any = None
        tracker = self

        class Output(BaseOutput):
            def out(self, total: Any, delta: Any) -> None:  # noqa: ANN401
                tracker.last = total

            def live_out(self, total: Any, delta: Any) -> None:  # noqa: ANN401
                """Intermediate reports are not needed."""

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        self.library = OfflineEmissionsTracker(
            country_iso_code=country or _ANY_COUNTRY,
            output_methods=[],
            log_level="critical",
            allow_multiple_runs=True,
            output_handlers=[Output()],
        )
        self.library.start()

    def energy(self, *, has_country: bool) -> Energy | None:
        """Energy so far; None if it cannot be measured on this machine."""
        self.library.flush()
        if (data := self.last) is None:
            return None
        hardware = [f"{data.cpu_count:g} cores of {data.cpu_model}"]
        if data.gpu_count:
            hardware.append(str(data.gpu_model))
        return Energy(
            kwh=float(data.energy_consumed),
            co2_kg=float(data.emissions) if has_country else None,
            hardware=", ".join(hardware),
            power=self._power_source(data.gpu_count),
        )

    def _power_source(self, n_gpus: int) -> str:
        """Which figures are read from counters, and which are estimates."""
        parts = getattr(self.library, "_hardware", ())  # codecarbon has no public name for this
        mode = next((str(part._mode) for part in parts if hasattr(part, "_mode")), "")
        measured = _MEASURED_CPU.get(mode)
        words = f"read from {measured}" if measured else _ESTIMATED_CPU.get(mode, "an estimate")
        gpu = "; graphics card: read from NVML's counters" if n_gpus else ""
        return f"processor: {words}{gpu}; memory: an estimate from its size"


def _start_tracker(country: str) -> _Tracker | None:
    try:
        return _Tracker(country)
    except ImportError:
        return None
