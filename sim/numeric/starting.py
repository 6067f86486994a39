"""A trained tensor is begun in the form that precision, profile and plan ask for."""

from __future__ import annotations

import numpy as np

from kernels.fp16.formats import FORMATS, round_to
from kernels.int8.update import wide_start
from kernels.profiles import NumericProfile, UpdateRule
from kernels.quantised import quantise_weight
from kernels.update import STATE_BITS, CompensatedUpdate
from sim.numeric.trained import Hyper, ParameterError, Trained
from sim.numeric.trained_floats import (
    BlockwiseTrained,
    CompensatedTrained,
    FloatTrained,
    HalfTrained,
)
from sim.numeric.trained_integers import NitiTrained, WideTrained
from sim.numeric.values import Floats


def start_trained(
    values: Floats,
    dtype: str,
    kind: str,
    profile: NumericProfile,
    hyper: Hyper,
    state_bits: int = 0,
) -> Trained:
    """Begin to train float values of an operator kind in the form that its precision keeps.

    ``state_bits`` are those that the plan counts: 8 or 32 of an FP32 layer's velocity, 16 of what
    the weights of a 16-bit layer lost, 0 where it counts none.

    Raises
    ------
    ParameterError
        A data type that nothing trains in, or a state that it cannot have.
    """
    widths = {"fp32": STATE_BITS, **dict.fromkeys(FORMATS, (CompensatedUpdate.state_bits,))}
    allowed_bits = (0, *widths.get(dtype, ()))
    if state_bits not in allowed_bits:
        raise ParameterError(
            f"state_bits is {state_bits!r}; allowed with dtype {dtype!r}: "
            f"{' or '.join(map(str, allowed_bits))}"
        )
    if dtype == "fp32" and state_bits == 8:
        return BlockwiseTrained.start(values, hyper)
    if dtype == "fp32":
        return FloatTrained(values, np.zeros_like(values), hyper)
    if dtype in FORMATS:
        form = FORMATS[dtype]
        start = round_to(values, form), np.zeros_like(values), hyper, form
        return (
            CompensatedTrained(*start, np.zeros_like(values)) if state_bits else HalfTrained(*start)
        )
    if dtype != "int8":
        allowed = ", ".join(("fp32", *FORMATS, "int8"))
        raise ParameterError(f"dtype is {dtype!r}; allowed: {allowed}")
    if profile.update is UpdateRule.WIDE:
        return WideTrained(wide_start(values), hyper)
    return NitiTrained(quantise_weight(values), profile, kind)
