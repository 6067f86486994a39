"""Floats to INT8 at the door of a network, by the rule of each training code."""

from __future__ import annotations

from math import ceil, log

import numpy as np

from kernels.profiles import InputRule, ProfileError
from kernels.quantised import BITS, Floats, QTensor, quantise_input_v1, quantise_input_v2


def quantise_input_mandheling(x: Floats) -> QTensor:
    """Mandheling's rule: the mantissa of NITI's version 1, a natural logarithm in the exponent.

    ``exponent = ceil(ln(max|x|)) - 7`` (``MnistUtils.cpp``; ``_Log`` is the natural logarithm),
    so that inputs up to 255 stand at the exponent -1 where NITI gives 1. Otherwise as
    :func:`kernels.quantised.quantise_input_v1`; a tensor of zeros gets the exponent -7.

    Examples
    --------
    >>> quantise_input_mandheling(np.array([255.0, -51.0], np.float32))
    QTensor(mantissa=array([127, -25], dtype=int8), exponent=-1)
    """
    mantissa = quantise_input_v1(x).mantissa
    amax = float(np.abs(x).max())
    return QTensor(mantissa, (ceil(log(amax)) if amax else 0) - BITS)


def quantise_input(x: Floats, rule: InputRule) -> QTensor:
    """Quantise a batch by the rule of a profile.

    Parameters
    ----------
    x
        Floats of any shape but an empty one; one exponent for all of them.
    rule
        ``profile.input_rule``.

    Raises
    ------
    QuantError
        No floats, none at all, NaN or infinity, or an exponent outside -126 .. 127.
    ProfileError
        An unknown rule.
    """
    rules = {
        InputRule.NITI_V1: quantise_input_v1,
        InputRule.NITI_V2: quantise_input_v2,
        InputRule.MANDHELING: quantise_input_mandheling,
    }
    if rule not in rules:
        raise ProfileError(f"rule is {rule!r}; allowed: one of {', '.join(InputRule)}")
    return rules[rule](x)
