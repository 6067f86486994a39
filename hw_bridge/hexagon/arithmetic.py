"""The integer kernels of a plan's DSP items on the emulated DSP, with the packets of each.

Each function has the signature of its namesake in :mod:`kernels.int8` and gives the same bits.
Intermediate tensors come back to this process after every kernel: one framed call per kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hw_bridge.hexagon.backend import HexagonKernels, Ran
from hw_bridge.hexagon.errors import HexagonError
from hw_bridge.hexagon.words import add_lefts, update_shifts
from kernels.conv import Conv2d
from kernels.int8.rescale import Rescaled, rescale
from kernels.int8.stored import Store, Stored
from kernels.int8.sums import AlignedSum
from kernels.int8.update import WideWeight
from kernels.layout import WeightRotate180
from kernels.linear import Linear
from kernels.operators import Operator
from kernels.pool import MaxPool2d
from kernels.profiles import DROPPED, RescaleRule, Small
from kernels.quantised import QTensor
from sim.numeric.arithmetic import Arithmetic
from sim.numeric.values import Accumulator

Int8s = NDArray[np.int8]
_Result = TypeVar("_Result")
MOST_PRODUCTS = 131_071
"""Products of INT8 whose sum INT32 always holds."""
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one item took.

    Attributes
    ----------
    packets, busiest
        Of all threads of its HVX kernels, and of the one with the most.
    kernels
        How many ran.
    without
        What had none, in words: it was done here.
    """

    packets: int
    busiest: int
    kernels: int
    without: tuple[str, ...]


class HexagonArithmetic:
    """Functions of :class:`sim.numeric.arithmetic.Arithmetic` on HVX.

    :meth:`take` gives what ran since it was last called.
    """

    def __init__(self, dsp: HexagonKernels) -> None:
        self._dsp = dsp
        self._packets = self._busiest = self._kernels = 0
        self._without: dict[str, None] = {}

    def table(self) -> Arithmetic:
        """All functions."""
        return Arithmetic(
            conv_forward=self.conv_forward,
            conv_input_grad=self.conv_input_grad,
            conv_weight_grad=self.conv_weight_grad,
            linear_forward=self.linear_forward,
            linear_input_grad=self.linear_input_grad,
            linear_weight_grad=self.linear_weight_grad,
            channel_sums=self.channel_sums,
            rescale=self.rescale,
            scan=self.scan,
            relu_forward=self.relu_forward,
            relu_input_grad=self.relu_input_grad,
            max_pool_forward=self.max_pool_forward,
            max_pool_input_grad=self.max_pool_input_grad,
            add=self.add,
            move=self.move,
            niti_update=self.niti_update,
            wide_update=self.wide_update,
        )

    def take(self) -> Spent:
        """What ran since the last time."""
        found = Spent(self._packets, self._busiest, self._kernels, tuple(self._without))
        self._packets = self._busiest = self._kernels = 0
        self._without = {}
        return found

    def _ran(self, ran: Ran[_Result]) -> _Result:
        self._packets += ran.counts.packets
        self._busiest += ran.counts.busiest
        self._kernels += 1
        return ran.result

    def conv_forward(
        self,
        x: Int8s,
        w: Int8s,
        op: Conv2d,
        *,
        bias: NDArray[np.int32] | None = None,
        store: Store | None = None,
        out: NDArray[Any] | None = None,
        **_: Any,
    ) -> Stored:
        """See :func:`kernels.int8.conv.conv_forward`."""
        x = np.ascontiguousarray(x)
        return _into(out, self._ran(self._dsp.conv_forward(x, w, op, bias=bias, store=store)))

    def conv_input_grad(
        self,
        e: Int8s,
        w: Int8s,
        op: Conv2d,
        *,
        store: Store | None = None,
        out: NDArray[Any] | None = None,
        **_: Any,
    ) -> Stored:
        """See :func:`kernels.int8.conv.conv_input_grad`."""
        e = np.ascontiguousarray(e)
        return _into(out, self._ran(self._dsp.conv_input_grad(e, w, op, store=store)))

    def conv_weight_grad(
        self,
        x: Int8s,
        e: Int8s,
        op: Conv2d,
        *,
        into: NDArray[Any] | None = None,
        wide: bool | None = None,
        **_: Any,
    ) -> Stored:
        """See :func:`kernels.int8.conv.conv_weight_grad`.

        Where INT32 does not always hold the sum, samples are taken in chunks for which it does,
        and the INT32 sums are widened and added in INT64, here.

        Raises
        ------
        HexagonError
            One sample alone has more places than a sum in INT32 may have products.
        """
        places = op.h_out * op.w_out
        most = MOST_PRODUCTS // places
        if not most:
            raise HexagonError(
                f"weight_grad of a map of {places} places; allowed: {MOST_PRODUCTS}, whose sum "
                "int32 holds; place it on the CPU"
            )
        x, e = np.ascontiguousarray(x), np.ascontiguousarray(e)
        if not wide and (into is None or into.dtype == np.int32) and op.n <= most:
            return self._ran(self._dsp.conv_weight_grad(x, e, op, into=into))
        self._without["INT64 sums"] = None
        total = None if into is None else into.astype(np.int64)
        for first in range(0, op.n, most):
            last = min(first + most, op.n)
            part = op.with_batch(last - first)
            sums = self._ran(self._dsp.conv_weight_grad(x[first:last], e[first:last], part))
            wider = sums.values.astype(np.int64)
            total = wider if total is None else total + wider
        assert total is not None
        return Stored(total, int(np.abs(total).max()))

    def linear_forward(
        self,
        x: Int8s,
        w: Int8s,
        op: Linear,
        *,
        bias: NDArray[np.int32] | None = None,
        store: Store | None = None,
        out: NDArray[Any] | None = None,
        **_: Any,
    ) -> Stored:
        """A convolution over one place, as in :mod:`kernels.int8.linear`."""
        done = self.conv_forward(_map(x), _map(w), op.as_conv(), bias=bias, store=store)
        return _into(out, _flat(done))

    def linear_input_grad(
        self,
        e: Int8s,
        w: Int8s,
        op: Linear,
        *,
        store: Store | None = None,
        out: NDArray[Any] | None = None,
        **_: Any,
    ) -> Stored:
        """See :meth:`linear_forward`."""
        done = self.conv_input_grad(_map(e), _map(w), op.as_conv(), store=store)
        return _into(out, _flat(done))

    def linear_weight_grad(
        self,
        x: Int8s,
        e: Int8s,
        op: Linear,
        *,
        into: NDArray[Any] | None = None,
        wide: bool | None = None,
        **_: Any,
    ) -> Stored:
        """See :meth:`linear_forward`."""
        total = None if into is None else _map(into)
        return _flat(self.conv_weight_grad(_map(x), _map(e), op.as_conv(), into=total, wide=wide))

    def channel_sums(self, error: Int8s) -> NDArray[np.int64]:
        """Sums over all places, as ones by the error; INT32 chunks are added in INT64, here."""
        rows = np.ascontiguousarray(error).reshape(-1, error.shape[-1])
        total = np.zeros(rows.shape[1], np.int64)
        if len(rows) > MOST_PRODUCTS:
            self._without["INT64 sums"] = None
        for first in range(0, len(rows), MOST_PRODUCTS):
            part = rows[first : first + MOST_PRODUCTS]
            total += self._ran(self._dsp.gemm(np.ones((1, len(part)), np.int8), part)).values[0]
        return total

    def scan(self, sums: Accumulator) -> int:
        """Largest magnitude, by the scan itself; of micro-batches, that of the widest."""
        parts = [part for part, _ in sums.parts] or [sums.sums]
        found = []
        for part in parts:
            words = _words(part)
            if words is None:
                self._without["a scan of INT64 sums"] = None
                return sums.amax
            found.append(self._ran(self._dsp.amax(words)))
        return max(found)

    def rescale(
        self,
        acc: NDArray[Any],
        exponent: int,
        rule: RescaleRule,
        out: Int8s | None = None,
        threads: int | None = None,
        *,
        shift: int | None = None,
    ) -> Rescaled:
        """See :func:`kernels.int8.rescale.rescale`."""
        words = _words(acc)
        if words is None or (shift == 0 and rule.small is Small.CAST):
            what = "rescaling of INT64 sums" if words is None else "a cast without a shift"
            self._without[what] = None
            return rescale(acc, exponent, rule, out, threads, shift=shift)
        if shift is None:
            found = self._ran(self._dsp.rescale(words, rule))
            return _rescaled(_into(out, found.stored), found.shift, exponent, rule)
        store = Store(shift, rule.rounding, rule.clip)
        stored = _into(out, self._ran(self._dsp.requantise(words, store)))
        return _rescaled(stored, shift, exponent, rule)

    def relu_forward(self, x: Int8s, out: Int8s | None = None, threads: int | None = None) -> Int8s:
        """See :func:`kernels.int8.pointwise.relu_forward`."""
        return _copied(out, self._ran(self._dsp.relu_forward(x)))

    def relu_input_grad(
        self,
        e: Int8s,
        y: Int8s,
        out: Int8s | None = None,
        threads: int | None = None,
        *,
        bound: int = 128,
    ) -> Int8s:
        """See :func:`kernels.int8.pointwise.relu_input_grad`."""
        return _copied(out, self._ran(self._dsp.relu_input_grad(e, y, bound)))

    def max_pool_forward(
        self, x: Int8s, op: MaxPool2d, out: Int8s | None = None, threads: int | None = None
    ) -> Int8s:
        """See :func:`kernels.int8.pool.max_pool_forward`."""
        return _copied(out, self._ran(self._dsp.max_pool_forward(x, op.with_batch(len(x)))))

    def max_pool_input_grad(self, x: Int8s, e: Int8s, op: MaxPool2d, **_: Any) -> NDArray[Any]:
        """See :func:`kernels.int8.pool.max_pool_input_grad`."""
        return self._ran(self._dsp.max_pool_input_grad(x, e, op.with_batch(len(x))))

    def add(
        self,
        terms: Sequence[QTensor],
        rule: RescaleRule,
        out: Int8s | None = None,
        threads: int | None = None,
        *,
        shift: int | None = None,
    ) -> Rescaled:
        """See :func:`kernels.int8.sums.add`."""
        exponent = AlignedSum(terms, rule.rounding).exponent
        values = [term.int8 for term in terms]
        found = self._ran(self._dsp.add(values, add_lefts(terms, exponent), rule, shift))
        stored = _into(out, found.stored)
        tensor = QTensor(stored.values, exponent + found.shift)
        return Rescaled(tensor, found.shift, stored.amax, stored.saturated, stored.lost)

    def move(self, op: Operator, array: NDArray[Any]) -> None:
        """Run the transposition, or the turn, that the plan has; the value is handed on as it lies.

        A transposition of samples and channels brings the samples innermost. What came back is
        compared: these kernels, too, must be exact.
        """
        if array.dtype != np.int8:
            self._without[f"{op.kind} of {array.dtype}"] = None
            return
        array = np.ascontiguousarray(array)
        if isinstance(op, WeightRotate180):
            moved, wanted = self._ran(self._dsp.rotate180(array)), array[:, ::-1, ::-1]
        else:  # axes swapped: samples and channels, or those of each group
            matrices = op.inputs[0][0] if len(op.inputs[0]) == 5 else 1
            rows = len(array) // matrices
            table = array.reshape(matrices, rows, prod(array.shape[1:]))
            moved, wanted = self._ran(self._dsp.transpose(table)), table.transpose(0, 2, 1)
        if not np.array_equal(moved, wanted):
            raise HexagonError(f"{op.kind} of {array.shape} came back changed; report it")

    def niti_update(
        self, w: Int8s, g: Int8s, *, wrap: bool = False, threads: int | None = None
    ) -> Int8s:
        """See :func:`kernels.int8.update.niti_update`."""
        return _copied(w, self._ran(self._dsp.niti_update(w, g, wrap=wrap)))

    def wide_update(
        self,
        weight: WideWeight,
        gradient: NDArray[Any],
        exponent: int,
        *,
        rate_q24: int,
        momentum_q16: int = 0,
        decay_q32: int = 0,
        threads: int | None = None,
    ) -> int:
        """See :func:`kernels.int8.update.wide_update`."""
        rates = (rate_q24, momentum_q16, decay_q32)
        shifts = update_shifts(weight, exponent)
        gradient = np.ascontiguousarray(gradient)
        ran = self._dsp.wide_update(weight.master, weight.velocity, gradient, shifts, rates)
        answer, shift, saturated = self._ran(ran)
        targets: list[NDArray[Any]] = [weight.master, weight.velocity, weight.working.int8]
        for array, found in zip(targets, answer.tensors, strict=True):
            array.reshape(-1)[...] = found
        weight.working = QTensor(weight.working.int8, weight.exponent + shift)
        return saturated


def _map(table: NDArray[Any]) -> NDArray[Any]:
    return table.reshape(len(table), 1, 1, -1)


def _flat(stored: Stored) -> Stored:
    table = stored.values.reshape(len(stored.values), -1)
    return Stored(table, stored.amax, stored.saturated, stored.lost)


def _copied(out: NDArray[Any] | None, values: NDArray[Any]) -> NDArray[Any]:
    """Write to what the caller gave, if it gave something."""
    if out is None:
        return values
    out.reshape(-1)[...] = values.reshape(-1)
    return out


def _into(out: NDArray[Any] | None, stored: Stored) -> Stored:
    return Stored(_copied(out, stored.values), stored.amax, stored.saturated, stored.lost)


def _words(acc: NDArray[Any]) -> NDArray[np.int32] | None:
    """Accumulators as INT32, if they fit."""
    if acc.dtype == np.int64:
        if int(acc.min()) < _INT32.min or int(acc.max()) > _INT32.max:
            return None
        acc = acc.astype(np.int32)
    return np.ascontiguousarray(acc)


def _rescaled(stored: Stored, shift: int, exponent: int, rule: RescaleRule) -> Rescaled:
    """Give the tensor its exponent: what a dropped shift left keeps that of the sums."""
    dropped = shift == DROPPED and not stored.values.any()
    cast = shift == 0 and rule.small is Small.CAST
    scale = exponent if dropped or cast else exponent + shift
    tensor = QTensor(stored.values, scale)
    return Rescaled(tensor, shift, stored.amax, stored.saturated, stored.lost)
