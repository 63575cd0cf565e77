"""The cost of a run: time, energy, CO2 and money, in ``cost.json``.

Each call of ``fashionclip train`` is a session; the cost of a run is the sum over its sessions.
Energy comes from codecarbon's offline tracker. Where the machine's power counters cannot be read,
its power is an estimate, and ``cost.json`` says so.
"""

import json
import logging
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fashionclip.errors import TrainingError
from fashionclip.train.recipe import CostConfig
from fashionclip.train.run import RunFolder

NAME = "cost.json"
_ANY_COUNTRY = "USA"  # the tracker needs one; its CO2 is discarded if the recipe has none
_CPU_POWER = {
    "intel_rapl": "read from RAPL counters",
    "intel_power_gadget": "read from Intel Power Gadget",
    "cpu_load": "an estimate from the processor's load and its model's typical power",
    "constant": "an estimate: a constant for the processor's model",
}


class CostMeter:
    """Measures a session, from its construction to ``stop``."""

    def __init__(self, run: RunFolder, config: CostConfig) -> None:
        """Start the session.

        Raises:
            TrainingError: the country is unknown.
        """
        self._run, self._config = run, config
        self._begun = time.perf_counter()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = read_cost(run).get("sessions", [])
        self._tracker: _Tracker | None = None
        try:
            self._tracker = _Tracker(config.country)
        except ImportError:
            return

    def save(self) -> dict[str, Any]:
        """Write the cost of the run so far, and return it.

        Raises:
            TrainingError: the folder cannot be written.
        """
        config = self._config
        measured = self._tracker.measure() if self._tracker else {}
        session = {
            "started": self._started,
            "seconds": time.perf_counter() - self._begun,
            "energy_kwh": measured.get("energy_kwh"),
            "co2_kg": measured.get("co2_kg") if config.country else None,
        }
        sessions = [*self._earlier, session]

        def total(name: str) -> float | None:
            """The sum over all sessions; None if a session lacks the quantity."""
            values = [session[name] for session in sessions]
            return None if None in values else sum(values)

        seconds = total("seconds") or 0.0
        unknown = "unknown: codecarbon is not installed, or cannot measure this machine"
        cost = {
            "seconds": seconds,
            "energy_kwh": total("energy_kwh"),
            "co2_kg": total("co2_kg"),
            "country": config.country,
            "money": seconds / 3600 * config.price if config.price else None,
            "price_per_hour": config.price or None,
            "currency": config.currency,
            "sessions": sessions,
            "hardware": measured.get("hardware", ""),
            "power": measured.get("power", unknown),
            "tracker": f"codecarbon {version('codecarbon')}" if measured else "",
        }
        self._run.write(self._run.root / NAME, json.dumps(cost, indent=2))
        return cost

    def stop(self) -> dict[str, Any]:
        """End the session; as ``save``.

        Raises:
            TrainingError: the folder cannot be written.
        """
        cost = self.save()
        if self._tracker is not None:
            self._tracker.library.stop()
        return cost


def read_cost(run: RunFolder) -> dict[str, Any]:
    """Read ``cost.json``; empty if it is missing or damaged."""
    try:
        found = json.loads((run.root / NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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

    def measure(self) -> dict[str, Any]:
        """Energy, CO2, hardware and the source of the power figures; empty if unknown here."""
        self.library.flush()
        if (data := self.last) is None:
            return {}
        parts = getattr(self.library, "_hardware", ())  # codecarbon has no public name for this
        mode = next((str(part._mode) for part in parts if hasattr(part, "_mode")), "")
        gpu = "; graphics card: read from NVML's counters" if data.gpu_count else ""
        cpu = _CPU_POWER.get(mode, "an estimate")
        gpu_model = f", {data.gpu_model}" if data.gpu_count else ""
        return {
            "energy_kwh": float(data.energy_consumed),
            "co2_kg": float(data.emissions),
            "hardware": f"{data.cpu_count:g} cores of {data.cpu_model}{gpu_model}",
            "power": f"processor: {cpu}{gpu}; memory: an estimate from its size",
        }
