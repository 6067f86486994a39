"""Rescale rules against slow twins that are told what the rule may see, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.cost import Rescaling
from sim.rescaling import RULES, UNKNOWN, Adaptive, Delayed, Every, parse_rule, rule_patterns

Trace = list[tuple[Rescaling, int]]
"""Mode of each step, and the shift in force after it."""


def run(text: str, shifts: list[int]) -> Trace:
    rule = parse_rule(text)
    state, found = rule.start(), []
    for shift in shifts:
        mode = rule.mode(state)
        state = rule.next(state, shift)
        found.append((mode, state.used))
    return found


def every_oracle(shifts: list[int]) -> Trace:
    return [("dynamic", shift) for shift in shifts]


def fixed_oracle(n: int, shifts: list[int]) -> Trace:
    """Scan in steps 0, n, 2n...; in between the last scan holds."""
    return [
        ("dynamic" if step % n == 0 else "fused", shifts[step - step % n])
        for step in range(len(shifts))
    ]


def adaptive_oracle(low: int, high: int, shifts: list[int]) -> Trace:
    """Write down the steps of all scans first, one period after the other."""
    found: Trace = []
    step, period, known = 0, low, None
    while step < len(shifts):
        scanned = shifts[step]
        moved = known is None or scanned != known
        period = low if moved else min(high, 2 * period)
        known = scanned
        found.append(("dynamic", scanned))
        found += [("fused", scanned)] * (period - 1)
        step += period
    return found[: len(shifts)]


def delayed_oracle(k: int, shifts: list[int]) -> Trace:
    """The first step must scan; then the largest of the last k shifts that were seen."""
    return [
        ("dynamic" if step == 0 else "inline", max(shifts[max(0, step - k + 1) : step + 1]))
        for step in range(len(shifts))
    ]


traces = st.lists(
    st.one_of(st.integers(7, 9), st.integers(0, 24)), min_size=1, max_size=80
)  # often stable
property_test = settings(max_examples=200, derandomize=True, deadline=None, database=None)


@property_test
@given(traces, st.integers(1, 9), st.integers(0, 60))
def test_rules_do_as_their_slow_twins(shifts: list[int], low: int, more: int) -> None:
    assert run("every", shifts) == every_oracle(shifts)
    assert run(f"fixed:{low}", shifts) == fixed_oracle(low, shifts)
    assert run(f"adaptive:{low}:{low + more}", shifts) == adaptive_oracle(low, low + more, shifts)
    assert run("hindsight", shifts) == delayed_oracle(1, shifts)
    assert run(f"delayed:{low}", shifts) == delayed_oracle(low, shifts)


@property_test
@given(traces, st.integers(1, 9), st.integers(0, 60), st.data())
def test_a_rule_never_uses_a_shift_that_it_did_not_see(
    shifts: list[int], low: int, more: int, data: st.DataObject
) -> None:
    texts = ["every", f"fixed:{low}", f"adaptive:{low}:{low + more}", "hindsight", f"delayed:{low}"]
    rule = parse_rule(data.draw(st.sampled_from(texts)))
    state = blind = rule.start()
    for shift in shifts:
        unseen = rule.mode(state) == "fused"
        other = data.draw(st.integers(0, 24)) if unseen else shift
        state, blind = rule.next(state, shift), rule.next(blind, other)
        assert state == blind


@property_test
@given(traces, st.integers(1, 9))
def test_the_first_step_of_every_rule_scans(shifts: list[int], low: int) -> None:
    for text in ("every", f"fixed:{low}", f"adaptive:{low}:64", "hindsight", f"delayed:{low}"):
        rule = parse_rule(text)
        assert rule.start().used == UNKNOWN
        assert rule.mode(rule.start()) == "dynamic"
        assert run(text, shifts)[0] == ("dynamic", shifts[0])


def test_adaptive_periods_by_hand() -> None:
    # Stable at 8: periods 1, 2, 4, 4 (the most); scans in 0, 1, 3, 7. The one in 11 finds 9, so
    # the next are in 12 and 14 again.
    shifts = [8] * 9 + [9] * 8
    scans = [k for k, (mode, _) in enumerate(run("adaptive:1:4", shifts)) if mode == "dynamic"]
    assert scans == [0, 1, 3, 7, 11, 12, 14]


def test_parsing() -> None:
    assert parse_rule("every") == Every()
    assert parse_rule("fixed:3") == Adaptive(3, 3)
    assert parse_rule("adaptive:2:64") == Adaptive(2, 64)
    assert parse_rule("hindsight") == Delayed(1)
    assert parse_rule("delayed:16") == Delayed(16)


@pytest.mark.parametrize(
    "text",
    ["", "never", "every:2", "fixed", "fixed:1:2", "adaptive:4", "adaptive:8:4", "hindsight:1"],
)
def test_malformed_rules(text: str) -> None:
    with pytest.raises(ValueError, match=r"choose one of adaptive:LOW:HIGH, delayed:K, every") as e:
        parse_rule(text)
    assert repr(text) in str(e.value)
    assert all(pattern in str(e.value) for pattern in rule_patterns())


def test_patterns_name_the_parameters_of_each_rule() -> None:
    ours = {"every", "fixed:N", "adaptive:LOW:HIGH", "hindsight", "delayed:K"}
    assert ours <= set(rule_patterns())
    assert set(RULES.built_in()) == {pattern.partition(":")[0] for pattern in ours}


def test_what_is_wrong_with_parameters_is_said() -> None:
    with pytest.raises(ValueError, match="'adaptive:4': write it as adaptive:LOW:HIGH;"):
        parse_rule("adaptive:4")
    with pytest.raises(ValueError, match=r"'adaptive:8:4' .* LOW must not exceed HIGH"):
        parse_rule("adaptive:8:4")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "fixed:0",
            "fixed:-1",
            "fixed:1.5",
            "fixed:N",
            "fixed:",
            "delayed:²",
            "fixed:99999999999",
        ),
        "fixed:" + "9" * 5000,
    ],
)
def test_parameters_that_are_no_counts(text: str) -> None:
    with pytest.raises(ValueError, match=r"parameters are whole numbers of 1 or more"):
        parse_rule(text)
