"""The cost of a run, session by session."""

import json
import time

import pytest

from fashionclip.errors import TrainingError
from fashionclip.train.cost import CostMeter, read_cost
from fashionclip.train.recipe import CostConfig
from fashionclip.train.run import RunFolder


def spend(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(i * i for i in range(1000))


def test_a_run_in_two_sessions_costs_their_sum(tmp_path, capfd):
    run = RunFolder(tmp_path)
    cost = CostConfig(country="FRA", price=36.0, currency="EUR")
    first = CostMeter(run, cost)
    spend(0.3)
    first.save()  # killed after this
    second = CostMeter(run, cost)
    spend(0.3)
    found = second.stop()
    assert found == read_cost(run) == json.loads((tmp_path / "cost.json").read_text("utf-8"))
    assert len(found["sessions"]) == 2
    for name in ("seconds", "energy_kwh", "co2_kg"):
        values = [session[name] for session in found["sessions"]]
        assert all(value > 0 for value in values)
        assert found[name] == pytest.approx(sum(values))
    assert found["money"] == pytest.approx(found["seconds"] / 100)
    assert found["currency"] == "EUR"
    first.stop()
    out, err = capfd.readouterr()
    assert out + err == ""


def test_what_is_estimated_is_called_an_estimate(tmp_path):
    meter = CostMeter(RunFolder(tmp_path), CostConfig(country="DEU"))
    power = meter.stop()["power"]
    assert "memory: an estimate" in power
    assert ("an estimate" in power.partition(";")[0]) != ("read from" in power.partition(";")[0])


def test_the_country_decides_the_co2_and_without_one_there_is_none(tmp_path):
    found = {}
    for country in ("FRA", "POL", ""):
        meter = CostMeter(RunFolder(tmp_path / (country or "none")), CostConfig(country=country))
        (tmp_path / (country or "none")).mkdir()
        spend(0.2)
        found[country] = meter.stop()
    rates = {c: found[c]["co2_kg"] / found[c]["energy_kwh"] for c in ("FRA", "POL")}
    assert rates["POL"] > 5 * rates["FRA"]  # coal against nuclear power
    assert found[""]["co2_kg"] is None
    assert found[""]["energy_kwh"] > 0
    assert found[""]["money"] is None


def test_an_unknown_country_is_refused_before_the_run(tmp_path):
    with pytest.raises(TrainingError, match=r"cost.country is 'Germany'.*DEU"):
        CostMeter(RunFolder(tmp_path), CostConfig(country="Germany"))
