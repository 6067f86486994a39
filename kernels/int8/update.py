"""Updates of INT8 weights: NITI's ``W - g``, and wide integer weights with momentum.

**Wide weights.** INT8 weights alone forget every step below half a unit. So the sandbox keeps a
*master*, int32 with a fixed exponent, and a *velocity* of the same width; the INT8 weights that
the kernels read are the master rounded to 8 bits at the exponent of its largest magnitude. The
rule is PyTorch's SGD (``torch.optim.SGD``), in integers alone::

    v <- momentum v + g + decay w
    w <- w - rate v

Momentum, decay and rate are integers in units of ``2^-16``, ``2^-32`` and ``2^-24``. Each product
is rounded once, to the nearest unit (ties toward +infinity), in INT64. The master's unit is
``2^-26`` of the largest initial weight (rounded up to a power of two), so weights may grow 32
times; the velocity's is a quarter of that. What would leave int32 saturates and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import check_array, target
from kernels.jit import compiled
from kernels.quantised import BITS, Floats, QTensor, QuantError, quantise_input_v2, shift_for
from kernels.rounding import NITI_CLIP
from kernels.threads import over_elements

MASTER_BITS = 26
"""Magnitude bits of the largest initial weight; 5 more are left for growth."""
VELOCITY_BITS = 2
"""Bits by which the velocity is finer than the master."""
MOMENTUM_UNIT, RATE_UNIT, DECAY_UNIT = 1 << 16, 1 << 24, 1 << 32
_INT32 = np.iinfo(np.int32)
_LEFT_MOST = 40
"""Gradients are cut at ``2^40`` units of the velocity: it saturates well below."""
_CHUNK = 2048
"""Weights updated before they are rounded: all their arrays, 34 KiB, stay in L1 and L2."""


def niti_update(
    w: NDArray[np.int8], g: NDArray[np.int8], *, wrap: bool = False, threads: int | None = None
) -> NDArray[np.int8]:
    """``w - g`` in place: clipped to -127 .. 127 as in NITI, or wrapped to 8 bits.

    Parameters
    ----------
    w, g
        int8 of one shape; the rate is in the bits that ``g`` was rescaled to.
    wrap
        As Mandheling's ``NITI_SGD.hpp``, which shows no clip.
    threads
        Threads at most; default: every core of this process.

    Raises
    ------
    ArrayError
        Another dtype, or shapes that differ; weights that are read-only.

    Examples
    --------
    >>> niti_update(np.array([-120, 5], np.int8), np.array([15, 7], np.int8))
    array([-127,   -2], dtype=int8)
    """
    check_array("w", w, np.int8)
    check_array("g", g, np.int8, shape=w.shape)
    weights, gradients = target(w, w.shape, np.int8).reshape(-1), g.reshape(-1)
    body = _subtract_wrapped if wrap else _subtract
    over_elements(lambda i, j: body(weights[i:j], gradients[i:j]), w.size, threads)
    return w


@dataclass(slots=True, eq=False)
class WideWeight:
    """Weights that training accumulates in; changed in place by :func:`wide_update`.

    Attributes
    ----------
    master, velocity
        int32, C-contiguous, of one shape.
    exponent
        Of the master: value = master * 2^exponent. The velocity's is :data:`VELOCITY_BITS` less.
    working
        The INT8 weights that kernels read.
    """

    master: NDArray[np.int32]
    velocity: NDArray[np.int32]
    exponent: int
    working: QTensor

    @property
    def velocity_exponent(self) -> int:
        """Exponent of the velocity."""
        return self.exponent - VELOCITY_BITS

    def dequantise(self) -> NDArray[np.float64]:
        """The master's values, exactly."""
        return np.ldexp(self.master.astype(np.float64), self.exponent)


def wide_start(w: Floats) -> WideWeight:
    """Wide weights from initial floats, at rest.

    Parameters
    ----------
    w
        Finite floats of any shape but an empty one; zeros get the exponent of a largest
        magnitude of 1.

    Examples
    --------
    >>> start = wide_start(np.array([0.5, -0.25], np.float32))
    >>> start.master, start.exponent
    (array([ 67108864, -33554432], dtype=int32), -27)
    >>> start.working
    QTensor(mantissa=array([127, -64], dtype=int8), exponent=-8)
    """
    exponent = quantise_input_v2(w).exponent + BITS - MASTER_BITS
    master = np.rint(np.ldexp(w.astype(np.float64), -exponent)).astype(np.int32)
    return wide_weight(np.ascontiguousarray(master), np.zeros(w.shape, np.int32), exponent)


def wide_weight(
    master: NDArray[np.int32],
    velocity: NDArray[np.int32],
    exponent: int,
    threads: int | None = None,
) -> WideWeight:
    """Wide weights from their integers, as a checkpoint holds them."""
    check_array("master", master, np.int32)
    check_array("velocity", velocity, np.int32, shape=master.shape)
    flat = master.reshape(-1)
    amax = max(over_elements(lambda i, j: int(_amax(flat[i:j])), flat.size, threads))
    empty = QTensor(np.empty(master.shape, np.int8), exponent)
    weight = WideWeight(master, velocity, exponent, empty)
    _refresh(weight, amax, threads)
    return weight


def wide_update(
    weight: WideWeight,
    gradient: NDArray[Any],
    exponent: int,
    *,
    rate_q24: int,
    momentum_q16: int = 0,
    decay_q32: int = 0,
    threads: int | None = None,
) -> int:
    """One step of SGD in place, and the new working weights; see the head of the module.

    Parameters
    ----------
    weight
        Changed in place.
    gradient
        int8, int32 or int64 mantissas of the shape of the master. What is above ``2^40`` units of
        the velocity, or in magnitude, counts as that much.
    exponent
        Of the gradient: value = gradient * 2^exponent.
    rate_q24, momentum_q16, decay_q32
        Rate in units of ``2^-24`` (0 to ``2^24``), momentum of ``2^-16`` (0 to ``2^16``),
        weight decay of ``2^-32`` (0 to ``2^24``).

    Returns
    -------
    int
        Values that saturated: velocities or weights that would have left int32.

    Raises
    ------
    ArrayError, QuantError
        A gradient of another dtype or shape; a rate, momentum or decay out of range.
    """
    check_array("gradient", gradient, np.int8, np.int32, np.int64, shape=weight.master.shape)
    for name, value, largest in (
        ("rate_q24", rate_q24, RATE_UNIT),
        ("momentum_q16", momentum_q16, MOMENTUM_UNIT),
        ("decay_q32", decay_q32, 1 << 24),
    ):
        if not 0 <= value <= largest:
            raise QuantError(f"{name} is {value}; allowed: 0 .. {largest}")
    left = exponent - weight.velocity_exponent
    plan = np.array(
        [min(max(left, 0), _LEFT_MOST), min(max(-left, 0), 62), rate_q24, momentum_q16, decay_q32],
        np.int64,
    )
    master, velocity = weight.master.reshape(-1), weight.velocity.reshape(-1)
    flat, working = gradient.reshape(-1), weight.working.int8.reshape(-1)
    foreseen = weight.working.exponent - weight.exponent

    def block(i: int, j: int) -> tuple[np.int64, np.int64]:
        arrays = master[i:j], velocity[i:j], flat[i:j]
        return _step_and_round(*arrays, plan, working[i:j], foreseen)

    parts = over_elements(block, flat.size, threads)
    amax = max(int(largest) for largest, _ in parts)
    if _shift(amax) != foreseen:
        _refresh(weight, amax, threads)
    return sum(int(saturated) for _, saturated in parts)


def _shift(amax: int) -> int:
    return max(shift_for(amax), 0)


def _refresh(weight: WideWeight, amax: int, threads: int | None) -> None:
    """Round the master to the working weights, in the memory that they have."""
    shift, working = _shift(amax), weight.working.int8.reshape(-1)
    flat = weight.master.reshape(-1)
    over_elements(lambda i, j: _round(flat[i:j], working[i:j], shift), flat.size, threads)
    weight.working = QTensor(weight.working.int8, weight.exponent + shift)


@compiled
def _subtract(w: NDArray[np.int8], g: NDArray[np.int8]) -> None:
    low, high = np.int16(NITI_CLIP[0]), np.int16(NITI_CLIP[1])
    for i in range(w.size):
        w[i] = np.int8(min(max(np.int16(np.int16(w[i]) - np.int16(g[i])), low), high))


@compiled
def _subtract_wrapped(w: NDArray[np.int8], g: NDArray[np.int8]) -> None:
    for i in range(w.size):
        w[i] = np.int8(np.int16(w[i]) - np.int16(g[i]))


@compiled
def _amax(x: NDArray[np.int32]) -> np.int64:
    largest = np.int64(0)
    for i in range(x.size):
        largest = max(largest, abs(np.int64(x[i])))
    return largest


@compiled
def _nearest(x: np.int64, shift: np.int64) -> np.int64:
    """``x / 2^shift`` to the nearest, ties toward +infinity; ``shift`` 1 or more."""
    return (x + (np.int64(1) << (shift - np.int64(1)))) >> shift


@compiled
def _step(
    master: NDArray[np.int32],
    velocity: NDArray[np.int32],
    gradient: NDArray[Any],
    plan: NDArray[np.int64],
) -> tuple[np.int64, np.int64]:
    """Update a block; returns the largest magnitude of the master, and how many saturated."""
    left, right, rate, momentum, decay = plan
    half = (np.int64(1) << right) >> np.int64(1)
    low, high = np.int64(-(2**31)), np.int64(2**31 - 1)
    enough = np.int64(1) << (np.int64(_LEFT_MOST) - left)
    largest = saturated = np.int64(0)
    for i in range(master.size):
        w = np.int64(master[i])
        g = min(max(np.int64(gradient[i]), -enough), enough)
        pull = _nearest(w * decay, np.int64(32 - VELOCITY_BITS))
        kept = _nearest(np.int64(velocity[i]) * momentum, np.int64(16))
        wanted = kept + (((g << left) + half) >> right) + pull
        v = min(max(wanted, low), high)
        velocity[i] = np.int32(v)
        moved = w - _nearest(v * rate, np.int64(24 + VELOCITY_BITS))
        inside = min(max(moved, low + 1), high)
        master[i] = np.int32(inside)
        saturated += np.int64(wanted != v) + np.int64(moved != inside)
        largest = max(largest, abs(inside))
    return largest, saturated


@compiled
def _step_and_round(
    master: NDArray[np.int32],
    velocity: NDArray[np.int32],
    gradient: NDArray[Any],
    plan: NDArray[np.int64],
    working: NDArray[np.int8],
    shift: int,
) -> tuple[np.int64, np.int64]:
    """As :func:`_step`, and the working weights at a shift foreseen, while data are in L1."""
    largest = saturated = np.int64(0)
    for first in range(0, master.size, _CHUNK):
        last = min(first + _CHUNK, master.size)
        part = master[first:last]
        found = _step(part, velocity[first:last], gradient[first:last], plan)
        _round(part, working[first:last], shift)
        largest, saturated = max(largest, found[0]), saturated + found[1]
    return largest, saturated


@compiled
def _round(master: NDArray[np.int32], working: NDArray[np.int8], shift: int) -> None:
    """Nearest, ties away from zero, clipped to -127 .. 127."""
    half = np.int64((np.int64(1) << np.int64(shift)) >> np.int64(1))
    for i in range(master.size):
        w = np.int64(master[i])
        tie = np.int64(w < 0) if shift > 0 else np.int64(0)
        value = (w + half - tie) >> np.int64(shift)
        working[i] = np.int8(min(max(value, np.int64(-127)), np.int64(127)))
