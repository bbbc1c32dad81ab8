"""Models are measured in turn, and ratios are to the first."""

import time

from pipeline.training.export_model import speed
from pipeline.training.export_model.speed import format_speeds, time_in_turns


def test_ratios_are_to_the_first(monkeypatch) -> None:
    monkeypatch.setattr(speed, "_BUDGET_S", 0.2)
    called: list[str] = []

    def sleeping(name: str, seconds: float):
        return lambda: (called.append(name), time.sleep(seconds))

    measured = time_in_turns(
        {"eager": sleeping("eager", 0.008), "exported": sleeping("exported", 0.002)}, 4
    )
    assert measured["eager"].ratio == 1.0 and 2 < measured["exported"].ratio < 5
    assert 200 < measured["eager"].images_per_s <= 500
    assert called[:4] == ["eager", "exported"] * 2, "both are warm before either is measured"
    said = format_speeds(measured).splitlines()
    assert said[0].split() == ["images/s", "x", "eager"] and said[2].startswith("exported")


def test_a_slow_model_is_measured_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr(speed, "_BUDGET_S", 1e-6)
    calls = [0]

    def call() -> None:
        calls[0] += 1

    assert time_in_turns({"eager": call}, 1)["eager"].ratio == 1.0
    assert calls[0] == 5, "two to warm up, one to see how long it takes, two rounds"
