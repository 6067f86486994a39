"""The mixing function of all keyed draws: the published one, the same in each of its forms."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.int8.draws import draw
from kernels.splitmix import GAMMA, MASK, mix, mix_words

FIRST = [6457827717110365317, 3203168211198807973, 9817491932198370423]
"""Outputs of the reference implementation (xoshiro's splitmix64.c) from state 1234567 on."""


def test_mixing_is_splitmix64() -> None:
    states = [1234567 + i * GAMMA & MASK for i in (1, 2, 3)]
    assert [mix(state) for state in states] == FIRST
    assert mix_words(np.array(states, np.uint64)).tolist() == FIRST
    assert [int(draw(np.uint64(1234567), i)) for i in range(3)] == FIRST


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, MASK), min_size=1, max_size=20))
def test_words_mix_as_integers_do(states: list[int]) -> None:
    assert mix_words(np.array(states, np.uint64)).tolist() == [mix(state) for state in states]
