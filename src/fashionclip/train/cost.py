"""What a run costs: time, energy, CO2 and money, kept in ``cost.json`` sitting by sitting.

A run that was killed and started again has several sittings; their sum is the run's cost. Energy
comes from codecarbon's offline tracker. Its power figure is an estimate wherever the machine does
not let its counters be read, and is called one.
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
from fashionclip.train.recipe import Cost
from fashionclip.train.run import RunFolder

NAME = "cost.json"
_ANY_COUNTRY = "USA"  # the tracker wants one; without a stated country its CO2 is not told
_MEASURED_CPU = {"intel_rapl": "RAPL counters", "intel_power_gadget": "Intel Power Gadget"}
_GUESSED_CPU = {
    "cpu_load": "an estimate from the processor's load and its model's typical power",
    "constant": "an estimate: a constant for the processor's model",
}


@dataclass(frozen=True, slots=True)
class Energy:
    """What one sitting took so far."""

    kwh: float
    co2_kg: float | None
    """None where no country is stated."""
    hardware: str
    power: str
    """How the power is known: by which counters, or that it is estimated and how."""


class CostMeter:
    """Counts a sitting from its making until ``stop``."""

    def __init__(self, run: RunFolder, cost: Cost) -> None:
        """Begin to count.

        Raises:
            TrainingError: no such country.
        """
        self._run, self._cost = run, cost
        self._begun = time.perf_counter()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = _sittings(run)
        self._tracker = _start_tracker(cost.country)

    def save(self) -> dict[str, Any]:
        """Write what the run has cost so far, and give it back.

        Raises:
            TrainingError: the folder cannot be written.
        """
        has_country = bool(self._cost.country)
        energy = self._tracker.energy(has_country=has_country) if self._tracker else None
        sitting: dict[str, Any] = {
            "started": self._started,
            "seconds": time.perf_counter() - self._begun,
            "energy_kwh": energy.kwh if energy else None,
            "co2_kg": energy.co2_kg if energy else None,
        }
        found = _total([*self._earlier, sitting], self._cost) | {
            "hardware": energy.hardware if energy else "",
            "power": energy.power
            if energy
            else "not known: codecarbon is not installed, or cannot count here",
            "tracker": f"codecarbon {version('codecarbon')}" if energy else "",
        }
        try:
            write_whole(self._run.root / NAME, json.dumps(found, indent=2).encode())
        except OSError as exc:
            message = f"{self._run.root / NAME} cannot be written ({exc.strerror}); make room"
            raise TrainingError(message) from exc
        return found

    def stop(self) -> dict[str, Any]:
        """End the sitting.

        Raises:
            TrainingError: the folder cannot be written.
        """
        found = self.save()
        if self._tracker is not None:
            self._tracker.library.stop()
        return found


def read_cost(run: RunFolder) -> dict[str, Any]:
    """What ``cost.json`` says; empty where there is none, or a damaged one."""
    try:
        found = json.loads((run.root / NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _sittings(run: RunFolder) -> list[dict[str, Any]]:
    found = read_cost(run).get("sittings", [])
    return [dict(sitting) for sitting in found]


def _total(sittings: list[dict[str, Any]], cost: Cost) -> dict[str, Any]:
    """The sum over all sittings; a quantity that one of them lacks is not known of the run."""

    def total(name: str) -> float | None:
        values = [sitting[name] for sitting in sittings]
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
        "sittings": sittings,
    }


class _Tracker:
    """Codecarbon's offline tracker, silent, with what it last reported."""

    def __init__(self, country: str) -> None:
        """Start it.

        Raises:
            ImportError: codecarbon is not installed.
            TrainingError: it knows no such country.
        """
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
        from codecarbon.output_methods.base_output import BaseOutput

        countries = DataSource().get_global_energy_mix_data()  # type: ignore[no-untyped-call]
        if country and country not in countries:
            message = f"cost.country is '{country}'; write ISO 3166's three letters, such as DEU"
            raise TrainingError(message)
        self.last: Any = None
        keep = self

        class Keeper(BaseOutput):
            def out(self, total: Any, delta: Any) -> None:  # noqa: ANN401
                keep.last = total

            def live_out(self, total: Any, delta: Any) -> None:  # noqa: ANN401
                """Between reports nothing is kept."""

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        self.library = OfflineEmissionsTracker(
            country_iso_code=country or _ANY_COUNTRY,
            output_methods=[],
            log_level="critical",
            allow_multiple_runs=True,
            output_handlers=[Keeper()],
        )
        self.library.start()

    def energy(self, *, has_country: bool) -> Energy | None:
        """What it has counted so far; None if it cannot count here."""
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
            power=self._how_known(data.gpu_count),
        )

    def _how_known(self, n_gpus: int) -> str:
        """Which of the figures are read off counters, and which are estimates."""
        parts = getattr(self.library, "_hardware", ())  # it has no public word for this
        mode = next((str(part._mode) for part in parts if hasattr(part, "_mode")), "")
        measured = _MEASURED_CPU.get(mode)
        words = f"read off {measured}" if measured else _GUESSED_CPU.get(mode, "an estimate")
        gpu = "; graphics card: read off NVML's counters" if n_gpus else ""
        return f"processor: {words}{gpu}; memory: an estimate from its size"


def _start_tracker(country: str) -> _Tracker | None:
    try:
        return _Tracker(country)
    except ImportError:
        return None
