"""Error of softmax cross-entropy from INT8 logits, by the rule of each training code.

NITI (``ti_loss.py``) and Mandheling (``NITI_CPULossGrad_Int8.cpp``; ``op_loss.c`` on the DSP is
the same but for its zero point) compute, per sample, with logits ``s`` and exponent ``e``:

1. ``e > -7``: ``z = s * 47274 / 2^15`` (base 2 instead of e), times ``2^e``;
   ``p = 2^max(0, z - max z + 10) - 1``. Else ``p = s^2 + s 2^(1 - e) + 2^(1 - 2e)``, twice the
   series of the exponential up to its square.
2. ``P = p * 2^11 / sum p``; ``P[label] -= sum P``; the error is P shifted right by 4 bits, at
   the exponent 0: it is not divided by the batch, as nothing there uses error exponents.

They differ in the divisions and in the last rounding. The sandbox's own rule is an integer
softmax, accurate to ``2^-19``, of the mean loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, check_labels, int8_mantissa
from kernels.int8.rescale import requantise, requantise_stochastic, rescale
from kernels.int8.stored import Store
from kernels.jit import compiled
from kernels.profiles import LossRule, NumericProfile
from kernels.quantised import QTensor, QuantError
from kernels.rounding import Rounding, ceil_log2

Int64s = NDArray[np.int64]

ERROR_BITS = 20
"""Fraction bits of the sandbox's probabilities."""
NITI_EXPONENTS = (-24, 40)
"""Logit exponents for which NITI's int64 arithmetic does not overflow."""
_TABLE_BITS = 30
"""Fraction bits of the exponentials."""
_SHIFT = 4
"""NITI's errors are 11-bit probabilities without their last 4 bits."""
_LOG2_E = 0x5C551D94AE0BF85D
"""``log2(e) * 2^62``, rounded down."""
_LN_2 = 0x2C5C85FDF473DE6A
"""``ln(2) * 2^62``, rounded down."""


def _check(logits: QTensor, labels: NDArray[Any]) -> NDArray[np.int8]:
    s = int8_mantissa("logits", logits)
    if s.ndim != 2:
        raise ArrayError(f"logits have shape {s.shape}; allowed: (n, classes); reshape them")
    check_labels(labels, *s.shape)
    return s


def _truncated(a: Int64s, b: int | Int64s) -> Int64s:
    """C's ``/`` of int64; by 0 it is 0, as AArch64's ``sdiv``."""
    safe = np.where(b == 0, np.int64(1), b)
    quotient: Int64s = np.sign(a) * np.sign(safe) * (abs(a) // abs(safe))
    return np.where(b == 0, np.int64(0), quotient)


def _power(bits: int, width: int) -> int:
    """``1 << bits`` in C, of ``width`` bits, the count taken modulo the width (AArch64)."""
    value = 1 << bits % width
    return value - (1 << width) if value >> width - 1 else value


def _integer_error(s: Int64s, exponent: int, labels: NDArray[Any], width: int) -> NDArray[np.int32]:
    """The 11-bit error of the head of the module, in integers; ``width`` of C's literal 1."""
    if exponent > -7:
        z = _truncated(s * 47274, 1 << 15)
        z = z * _power(exponent, width) if exponent >= 0 else _truncated(z, 1 << -exponent)
        z = np.maximum(z - (z.max(axis=1, keepdims=True) - 10), 0)
        p = (np.int64(1) << z) - 1
    else:
        p = s * s + s * _power(1 - exponent, width) + _power(1 - 2 * exponent, width)
    shares = _truncated(p << 11, p.sum(axis=1, keepdims=True))
    shares[np.arange(len(s)), labels] -= shares.sum(axis=1)
    return shares.astype(np.int32)


def _check_niti(exponent: int) -> None:
    least, largest = NITI_EXPONENTS
    if not least <= exponent <= largest:
        raise QuantError(
            f"logits have the exponent {exponent}; allowed: {least} .. {largest}, where NITI's"
            " int64 does not overflow; use the loss of the profile sandbox"
        )


def niti_v1_error(logits: QTensor, labels: NDArray[Any], key: int) -> QTensor:
    """NITI version 1: integers only, divisions toward zero, ``StoShift`` by 4 bits.

    Parameters
    ----------
    logits
        (n, classes) int8, exponent in :data:`NITI_EXPONENTS`. (From 7 on NITI's own power of
        two, an int8, wraps; here it does not.)
    labels
        (n,) integers, the right classes.
    key
        Of the draws, see :func:`kernels.int8.draws.draw_key`; NITI's generator is CUDA's.

    Returns
    -------
    QTensor
        (n, classes) int8 in -127 .. 127, exponent 0.

    Raises
    ------
    ArrayError, QuantError, DrawError
        Arrays that do not fit, a label, an exponent or a key out of range.
    """
    s = _check(logits, labels).astype(np.int64)
    _check_niti(logits.exponent)
    error = _integer_error(s, logits.exponent, labels, 64)
    return QTensor(requantise_stochastic(error, _SHIFT, key).values, 0)


def niti_v2_error(logits: QTensor, labels: NDArray[Any], key: int) -> QTensor:
    """NITI version 2: **in float32**, as its ``/`` is a true division; then ``StoShift``.

    The sums truncate each float first, as torch's ``sum(dtype=int64)``. The powers of two are
    NumPy's float32 ``exp2``: the last bit may differ from CUDA's. From the exponent 21 on float32
    may lose the 10 that keeps the largest logit above 0; where nothing is left to divide by,
    NITI converts NaN to integers, which each machine does its own way, and here the error is 0.

    Parameters, result and errors are those of :func:`niti_v1_error`.
    """
    s = _check(logits, labels).astype(np.int64)
    exponent = logits.exponent
    _check_niti(exponent)
    if exponent > -7:
        z = (s * 47274).astype(np.float32) / np.float32(1 << 15)
        z = np.ldexp(z, exponent)
        z = np.maximum(z - (z.max(axis=1, keepdims=True) - np.float32(10)), np.float32(0))
        p = np.exp2(z) - np.float32(1)
        total, scaled = p.astype(np.int64).sum(axis=1, keepdims=True), p * np.float32(1 << 11)
    else:
        exact = s * s + s * (1 << 1 - exponent) + (1 << 1 - 2 * exponent)
        total, scaled = exact.sum(axis=1, keepdims=True), (exact << 11).astype(np.float32)
    divisor = total.astype(np.float32)
    divisor[divisor == 0] = np.inf
    shares = scaled / divisor
    whole = shares.astype(np.int64).sum(axis=1)
    shares[np.arange(len(s)), labels] -= whole.astype(np.float32)
    return QTensor(requantise_stochastic(shares.astype(np.int32), _SHIFT, key).values, 0)


def mandheling_error(logits: QTensor, labels: NDArray[Any]) -> QTensor:
    """Mandheling's port of version 1, on CPU and DSP: ``PstoShift`` by 4 bits, no draws.

    Its literals ``1 << ...`` have 32 bits: from the exponent -15 down ``1 << (1 - 2e)``
    overflows. Counts of 32 and more are undefined in C; here they are taken modulo 32, and a
    division by 0 gives 0, as AArch64's instructions do.

    Parameters, result and errors are those of :func:`niti_v1_error`, without a key; every
    exponent is allowed.
    """
    s = _check(logits, labels).astype(np.int64)
    error = _integer_error(s, logits.exponent, labels, 32)
    return QTensor(requantise(error, Store(_SHIFT, Rounding.PSTO)).values, 0)


def exp2_negative(y: int, bits: int) -> int:
    """``2^-y`` in fixed point, in integers: ``y`` and the result have ``bits`` fraction bits.

    The fraction's power is the Taylor series of ``exp(-f ln 2)`` with 62 fraction bits, cut
    below ``2^-62``; the result is within one unit of ``2^-bits``.

    Parameters
    ----------
    y
        0 or more.
    bits
        1 to 60.
    """
    whole, fraction = y >> bits, y & (1 << bits) - 1
    x = fraction * _LN_2 >> bits
    term = total = 1 << 62
    order = 1
    while term:
        term = (term * x >> 62) // order
        total += -term if order % 2 else term
        order += 1
    drop = 62 - bits + whole
    return (total + (1 << drop - 1)) >> drop


@lru_cache(maxsize=256)
def exponentials(exponent: int) -> Int64s:
    """``exp(-d * 2^exponent)`` for ``d`` from 0 to 255, in units of ``2^-30``; read-only int64.

    All differences of two int8 logits. Within one unit, which the tests check.
    """
    values = []
    for d in range(256):
        drop = 22 - exponent
        y = d * _LOG2_E >> drop if drop >= 0 else d * _LOG2_E << -drop  # 40 fraction bits
        power = exp2_negative(min(y, 64 << 40), 40)
        values.append((power + (1 << 9)) >> 10)
    table = np.array(values, np.int64)
    table.flags.writeable = False
    return table


@compiled
def _softmax_rows(
    s: NDArray[np.int8],
    labels: NDArray[Any],
    table: Int64s,
    scale: np.int64,
    error: NDArray[np.int32],
) -> None:
    """``(softmax - one_hot) * scale / 2^30`` in units of ``2^-20``."""
    half = np.int64(1 << (_TABLE_BITS - 1))
    for n in range(s.shape[0]):
        largest = s[n].max()
        total = np.int64(0)
        for c in range(s.shape[1]):
            total += table[np.int64(largest) - np.int64(s[n, c])]
        for c in range(s.shape[1]):
            power = table[np.int64(largest) - np.int64(s[n, c])]
            share = ((power << np.int64(ERROR_BITS)) + (total >> 1)) // total
            if c == labels[n]:
                share -= np.int64(1) << np.int64(ERROR_BITS)
            error[n, c] = np.int32((share * scale + half) >> np.int64(_TABLE_BITS))


def softmax_error(logits: QTensor, labels: NDArray[Any]) -> QTensor:
    """``(softmax(logits) - one_hot(labels)) / n`` in integers: the error of the mean loss.

    Parameters
    ----------
    logits
        (n, classes) int8, any exponent.
    labels
        (n,) integers, the right classes.

    Returns
    -------
    QTensor
        (n, classes) int32 accumulators at the exponent ``-20 - ceil_log2(n)``, to be rescaled.
        Up to 1000 classes each is within ``2^-19 / n`` of the real value.

    Raises
    ------
    ArrayError
        Arrays that do not fit, or a label out of range.

    Examples
    --------
    >>> logits = QTensor(np.array([[0, 0]], np.int8), 0)
    >>> softmax_error(logits, np.array([1])).dequantise()
    array([[ 0.5, -0.5]])
    """
    s = _check(logits, labels)
    n = len(s)
    bits = ceil_log2(n)
    scale = ((2 << _TABLE_BITS + bits) + n) // (2 * n)
    error = np.empty(s.shape, np.int32)
    _softmax_rows(s, labels, exponentials(logits.exponent), np.int64(scale), error)
    return QTensor(error, -ERROR_BITS - bits)


def loss_error(
    logits: QTensor, labels: NDArray[Any], profile: NumericProfile, key: int = 0
) -> QTensor:
    """The int8 error by the rule of a profile, the sandbox's rescaled by the profile's rule.

    Parameters
    ----------
    logits, labels
        As for :func:`softmax_error`.
    profile
        Its ``loss`` chooses; its ``error`` rescales the exact softmax.
    key
        For the rules with draws (NITI's).

    Raises
    ------
    ArrayError, QuantError, DrawError
        As the rule.
    """
    return _ERRORS[profile.loss](logits, labels, profile, key)


def _sandbox_error(
    logits: QTensor, labels: NDArray[Any], profile: NumericProfile, key: int
) -> QTensor:
    exact = softmax_error(logits, labels)
    if profile.clip_stops_error:
        _stop_at_clip(exact.mantissa, logits.int8, profile.activation.clip)
    return rescale(exact.mantissa, exact.exponent, profile.error).tensor


def _stop_at_clip(error: NDArray[Any], logits: NDArray[np.int8], clip: tuple[int, int]) -> None:
    """Set to 0, in place, what would push a logit beyond the clip that holds it."""
    low, high = clip
    error[(logits >= high) & (error < 0) | (logits <= low) & (error > 0)] = 0


_ERRORS: dict[LossRule, Callable[[QTensor, NDArray[Any], NumericProfile, int], QTensor]] = {
    LossRule.NITI_V1: lambda logits, labels, _, key: niti_v1_error(logits, labels, key),
    LossRule.NITI_V2: lambda logits, labels, _, key: niti_v2_error(logits, labels, key),
    LossRule.MANDHELING: lambda logits, labels, _, key: mandheling_error(logits, labels),
    LossRule.SANDBOX: _sandbox_error,
}


def cross_entropy(logits: QTensor, labels: NDArray[Any]) -> float:
    """Mean cross-entropy in nats, in float64: to be shown, not to train by.

    Raises
    ------
    ArrayError
        As :func:`softmax_error`.

    Examples
    --------
    >>> round(cross_entropy(QTensor(np.array([[5, 5]], np.int8), -3), np.array([0])), 6)
    0.693147
    """
    _check(logits, labels)
    z = logits.dequantise()
    z -= z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]).mean())
