"""Samples of a store as the rows of a fit: medians, and slips named by store, key and field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cost_models.fitting import CalibrationError, Schema, fit
from cost_models.fitting.laws import KERNELS
from cost_models.fitting.samples import fitted_on, samples_of, table_of
from cost_models.samples import Fingerprint, Sample, StoreContent

SCHEMA = Schema("us", {"family": (), "shape": ()}, {"work": (1, 1e15), "bytes": (1, 1e15)})
CONFIG: Mapping[str, Any] = {"family": "conv", "shape": "a", "work": 10**6, "bytes": 4096}
ONE = Sample("conv/a", "kernel", "ns", (31_000, 30_000, 99_000), CONFIG)


def test_the_value_is_the_median_in_the_unit_of_the_law() -> None:
    table = table_of([ONE, replace(ONE, key="conv/b", raw=(5, 7, 9, 11))], SCHEMA, "s.jsonl")
    assert table.values.tolist() == [31.0, 0.008]
    assert table.names.tolist() == ["conv/a", "conv/b"]
    assert table.labels["family"].tolist() == ["conv", "conv"]
    assert table.numbers["bytes"].tolist() == [4096.0, 4096.0]
    assert "s.jsonl" in table.sources[0]
    assert table.sha256 != table_of([ONE], SCHEMA, "s.jsonl").sha256


def test_packets_are_exact_and_taken_once() -> None:
    count = replace(ONE, unit="packets", raw=(1234,))
    assert table_of([count], replace(SCHEMA, unit="packets"), "s").values.tolist() == [1234.0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"unit": "packets"}, r"s: conv/a: unit: 'packets' is not allowed; allowed: \['ns'\]"),
        ({"raw": (1, 2)}, "s: conv/a: raw: 2 of 3 repetitions or more; sample it again"),
        ({"raw": (0, 0, 9)}, "conv/a: raw: has median 0; the clock is too coarse"),
        ({"config": {**CONFIG, "work": "1e6"}}, "config.work: '1e6' is not allowed; give a number"),
        ({"config": {**CONFIG, "work": float("nan")}}, "config.work: nan is not allowed"),
        ({"config": {**CONFIG, "work": True}}, "config.work: True is not allowed"),
        ({"config": {**CONFIG, "bytes": 0}}, "config.bytes: 0 is not allowed; give a number from"),
        ({"config": {**CONFIG, "family": 3}}, "config.family: 3 is not allowed; allowed: any word"),
        ({"config": {"family": "conv"}}, "config.shape: is missing; it has family; sample with it"),
    ],
)
def test_a_bad_sample_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(CalibrationError, match=said) as told:
        table_of([replace(ONE, **changed)], SCHEMA, "s")
    assert "\n" not in str(told.value)


def test_a_word_that_is_not_allowed() -> None:
    schema = replace(SCHEMA, labels={"family": ("linear",)})
    with pytest.raises(CalibrationError, match="'conv' is not allowed; allowed: linear"):
        table_of([ONE], schema, "s")


def test_samples_of_one_kind_on_one_machine() -> None:
    board = Fingerprint("board", {"soc": "SM8250", "hexagon": "v66"})
    other = Fingerprint("board", {"soc": "QCS6490", "hexagon": "v68"})
    mine = replace(ONE, fingerprint=board.id)
    theirs = replace(ONE, key="b", fingerprint=other.id)
    content = StoreContent((mine, theirs), (board, other), 0, 0)
    assert samples_of(content, "kernel", "s") == (mine, theirs)
    with pytest.raises(CalibrationError, match="no samples of kind 'null_call'; kinds in it: kern"):
        samples_of(content, "null_call", "s")
    facts = fitted_on(content, (mine,), "s").facts
    assert facts == {"backend": "board", "soc": "SM8250", "hexagon": "v66"}
    with pytest.raises(CalibrationError, match=r"of 2 machines .*soc: SM8250, not QCS6490"):
        fitted_on(content, (mine, theirs), "s")


def kernels() -> list[Sample]:
    """Draw ``10 us + work / 40 per ns`` for two families."""
    rng = np.random.default_rng(5)
    made = []
    for family in ("conv", "linear"):
        for index in range(12):
            work = int(np.exp(rng.uniform(np.log(1e4), np.log(1e8))))
            ns = 1e4 + work / 40
            raw = tuple(int(ns * (1 + noise)) for noise in (0.0, 0.01, -0.01))
            config = {"family": family, "shape": f"{index}", "work": work, "bytes": 1}
            made.append(Sample(f"{family}/{index}", "kernel", "ns", raw, config))
    return made


def test_drawn_kernels_give_their_coefficients_back() -> None:
    table = table_of(kernels(), SCHEMA, "s")
    assert fit(KERNELS, table) == pytest.approx([10, 40], rel=1e-3)
