"""Single kernels on the emulated DSP: the calls of :mod:`kernels.int8`, and what they took.

Arrays are those of :mod:`kernels.int8` (channels last, C-contiguous), and so are the results, to
the last bit. Packets come from the emulator: they are what a DSP would issue, not its cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hw_bridge.hexagon.protocol import IN_TURN, Answer, Counts, Kernel
from hw_bridge.hexagon.runner import Runner
from hw_bridge.hexagon.words import conv_words, pool_words, rule_words, store_words
from kernels.conv import Conv2d
from kernels.int8.stored import Store, Stored
from kernels.pool import MaxPool2d
from kernels.profiles import RescaleRule

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
_Result = TypeVar("_Result")
_NO_INT32 = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Ran(Generic[_Result]):
    """A result, and the packets that it took."""

    result: _Result
    counts: Counts


@dataclass(frozen=True, slots=True, eq=False)
class Shifted:
    """INT8 by a shift that the kernel found.

    Attributes
    ----------
    shift
        The right shift taken.
    stored
        Values and what the shift cost.
    """

    shift: int
    stored: Stored


def _stored(answer: Answer, shape: tuple[int, ...], values: Sequence[int]) -> Stored:
    amax, saturated, lost = values
    return Stored(answer.tensors[0].reshape(shape), amax, saturated, lost)


class HexagonKernels:
    """The kernels of one runner, on a number of HVX threads.

    Parameters
    ----------
    runner
        The process that runs them.
    threads
        1 to 8; the bits do not depend on it.
    in_turn
        Whether the emulator runs the shares of the threads one after the other: the counts
        of several threads repeat exactly then.

    Raises
    ------
    KernelError
        From every call whose arrays do not fit its layer.
    """

    def __init__(self, runner: Runner, threads: int = 1, *, in_turn: bool = False) -> None:
        self.runner = runner
        self.threads = threads
        self.in_turn = in_turn

    def _run(
        self, kernel: Kernel, params: Sequence[int], *tensors: NDArray[Any]
    ) -> tuple[Answer, Counts]:
        threads = self.threads | (IN_TURN if self.in_turn else 0)
        answer = self.runner.call(kernel, params, tensors, threads)
        return answer, answer.counts

    def gemm(self, a: Int8s, b: Int8s, store: Store | None = None) -> Ran[Stored]:
        """``a @ b`` of (M, K) and (K, N), K up to 131071."""
        params = [a.shape[0], a.shape[1], b.shape[1], *store_words(store)]
        answer, counts = self._run(Kernel.GEMM, params, a, b)
        return Ran(_stored(answer, (a.shape[0], b.shape[1]), answer.values), counts)

    def conv_forward(
        self,
        x: Int8s,
        w: Int8s,
        op: Conv2d,
        *,
        bias: Int32s | None = None,
        store: Store | None = None,
    ) -> Ran[Stored]:
        """See :func:`kernels.int8.conv.conv_forward`."""
        params = [*conv_words(op), *store_words(store)]
        extra = _NO_INT32 if bias is None else bias
        answer, counts = self._run(Kernel.CONV_FORWARD, params, x, w, extra)
        return Ran(_stored(answer, (op.n, op.h_out, op.w_out, op.c_out), answer.values), counts)

    def conv_input_grad(
        self, e: Int8s, w: Int8s, op: Conv2d, *, store: Store | None = None
    ) -> Ran[Stored]:
        """See :func:`kernels.int8.conv.conv_input_grad`."""
        params = [*conv_words(op), *store_words(store)]
        answer, counts = self._run(Kernel.CONV_INPUT_GRAD, params, e, w)
        return Ran(_stored(answer, (op.n, op.h, op.w, op.c_in), answer.values), counts)

    def conv_weight_grad(
        self, x: Int8s, e: Int8s, op: Conv2d, *, into: Int32s | None = None
    ) -> Ran[Stored]:
        """See :func:`kernels.int8.conv.conv_weight_grad`; INT32 sums only, ``into`` is not changed.

        A (micro-)batch has at most 131071 samples times places, whose sum INT32 always holds; a
        sum with ``into`` that leaves INT32 is refused.
        """
        extra = _NO_INT32 if into is None else into
        answer, counts = self._run(Kernel.CONV_WEIGHT_GRAD, conv_words(op), x, e, extra)
        shape = (op.c_out, op.k_h, op.k_w, op.c_in // op.groups)
        return Ran(_stored(answer, shape, answer.values), counts)

    def amax(self, acc: Int32s) -> Ran[int]:
        """Largest magnitude of int32 values."""
        answer, counts = self._run(Kernel.AMAX, [], acc)
        return Ran(answer.values[0], counts)

    def requantise(self, acc: Int32s, store: Store) -> Ran[Stored]:
        """See :func:`kernels.int8.rescale.requantise`; int32 only."""
        answer, counts = self._run(Kernel.REQUANTISE, store_words(store), acc)
        return Ran(_stored(answer, acc.shape, answer.values), counts)

    def rescale(self, acc: Int32s, rule: RescaleRule) -> Ran[Shifted]:
        """Scan, then requantise: :func:`kernels.int8.rescale.rescale` without exponents."""
        answer, counts = self._run(Kernel.RESCALE, rule_words(rule), acc)
        shift, *rest = answer.values
        return Ran(Shifted(shift, _stored(answer, acc.shape, rest)), counts)

    def relu_forward(self, x: Int8s) -> Ran[Int8s]:
        """See :func:`kernels.int8.pointwise.relu_forward`."""
        answer, counts = self._run(Kernel.RELU_FORWARD, [], x)
        return Ran(answer.tensors[0].reshape(x.shape), counts)

    def relu_input_grad(self, e: Int8s, y: Int8s, bound: int = 128) -> Ran[Int8s]:
        """See :func:`kernels.int8.pointwise.relu_input_grad`."""
        answer, counts = self._run(Kernel.RELU_INPUT_GRAD, [bound], e, y)
        return Ran(answer.tensors[0].reshape(e.shape), counts)

    def max_pool_forward(self, x: Int8s, op: MaxPool2d) -> Ran[Int8s]:
        """See :func:`kernels.int8.pool.max_pool_forward`."""
        answer, counts = self._run(Kernel.MAX_POOL_FORWARD, pool_words(op), x)
        return Ran(answer.tensors[0].reshape(op.n, op.h_out, op.w_out, op.c), counts)

    def max_pool_input_grad(self, x: Int8s, e: Int8s, op: MaxPool2d) -> Ran[NDArray[Any]]:
        """See :func:`kernels.int8.pool.max_pool_input_grad`."""
        answer, counts = self._run(Kernel.MAX_POOL_INPUT_GRAD, pool_words(op), x, e)
        return Ran(answer.tensors[0].reshape(x.shape), counts)

    def add(
        self,
        terms: Sequence[Int8s],
        lefts: Sequence[int],
        rule: RescaleRule,
        shift: int | None = None,
    ) -> Ran[Shifted]:
        """Sum of terms shifted left each (negative: rounded to the right), rescaled.

        ``lefts`` are those that :class:`kernels.int8.sums.AlignedSum` takes for the exponents.
        """
        known = [int(shift is not None), 0 if shift is None else shift]
        answer, counts = self._run(Kernel.ADD, [*rule_words(rule), *known, *lefts], *terms)
        found, *rest = answer.values
        return Ran(Shifted(found, _stored(answer, terms[0].shape, rest)), counts)

    def transpose(self, x: Int8s) -> Ran[Int8s]:
        """Swap the last two axes of (matrices, rows, columns)."""
        answer, counts = self._run(Kernel.TRANSPOSE, x.shape, x)
        return Ran(answer.tensors[0].reshape(x.shape[0], x.shape[2], x.shape[1]), counts)

    def to_d32(self, x: Int8s) -> Ran[Int8s]:
        """(n, h, w, c) to hexagon_nn's depth-32 layout (n, h, ceil(c / 32), w, 32)."""
        answer, counts = self._run(Kernel.TO_D32, x.shape, x)
        n, h, w, c = x.shape
        return Ran(answer.tensors[0].reshape(n, h, -(-c // 32), w, 32), counts)

    def from_d32(self, x: Int8s, channels: int) -> Ran[Int8s]:
        """Back from :meth:`to_d32`, to (n, h, w, channels)."""
        n, h, _, w, _ = x.shape
        answer, counts = self._run(Kernel.FROM_D32, [n, h, w, channels], x)
        return Ran(answer.tensors[0].reshape(n, h, w, channels), counts)

    def rotate180(self, w: Int8s) -> Ran[Int8s]:
        """Turn (c_out, k_h, k_w, c) weights by 180 degrees in their window."""
        params = [w.shape[0], w.shape[1] * w.shape[2], w.shape[3]]
        answer, counts = self._run(Kernel.ROTATE180, params, w)
        return Ran(answer.tensors[0].reshape(w.shape), counts)

    def niti_update(self, w: Int8s, g: Int8s, *, wrap: bool = False) -> Ran[Int8s]:
        """See :func:`kernels.int8.update.niti_update`; ``w`` is not changed."""
        answer, counts = self._run(Kernel.NITI_UPDATE, [int(wrap)], w, g)
        return Ran(answer.tensors[0].reshape(w.shape), counts)

    def wide_update(
        self,
        master: Int32s,
        velocity: Int32s,
        gradient: NDArray[Any],
        shifts: tuple[int, int],
        rates: tuple[int, int, int],
    ) -> Ran[tuple[Answer, int, int]]:
        """One step of :func:`kernels.int8.update.wide_update`, on its integers.

        Parameters
        ----------
        shifts
            Left and right shift of the gradient to the velocity's exponent.
        rates
            ``rate_q24``, ``momentum_q16``, ``decay_q32``.

        Returns
        -------
        Ran
            The answer with master, velocity and INT8 weights; the shift to those; how many
            values saturated.
        """
        params = [*shifts, *rates]
        answer, counts = self._run(Kernel.WIDE_UPDATE, params, master, velocity, gradient)
        return Ran((answer, answer.values[0], answer.values[1]), counts)
