"""The fast engines are fast. The bounds here are wide of the targets in ``bench_engines``: this
is a net for an engine that fell back to Python or counts references again, on any busy machine."""

from __future__ import annotations

from experiments.bench_engines import COMPILED_RATIO, STATIC_RATIO, measure, step_like_graph


def test_engines_are_faster_than_simpy() -> None:
    result = measure(step_like_graph(), rounds=3)
    assert result["tasks"] == 450
    assert result["compiled_ratio"] > COMPILED_RATIO / 4
    assert result["static_ratio"] > STATIC_RATIO / 4
