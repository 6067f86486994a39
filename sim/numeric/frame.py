"""One step while it is computed: what every buffer holds, and what the kernels may know.

A kernel of the numeric executor is a function of a :class:`Frame` and an
:class:`~sim.draft.Item`. It reads values by the buffer names of the item and puts its results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.draws import draw_u32
from kernels.int8.border import dequantise
from kernels.operators import Role, channels_last
from kernels.profiles import NumericProfile, RescaleRule, TensorRole, rule_of
from kernels.quantised import QTensor
from sim.draft import Draft, Item
from sim.numeric.arithmetic import PLAIN
from sim.numeric.parameters import Parameters
from sim.numeric.records import ShiftRecord
from sim.numeric.values import Accumulator, Floats, Pool, Value, array_of, as_floats

_TENSOR_ROLE = {
    Role.FORWARD: TensorRole.ACTIVATION,
    Role.INPUT_GRAD: TensorRole.ERROR,
    Role.WEIGHT_GRAD: TensorRole.GRADIENT,
}


class NumericError(ValueError):
    """A step cannot be computed; the message names the tensor, the value and what to do."""


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a step is given beside its tensors.

    Attributes
    ----------
    seed, step, epoch
        Keys of random draws; the epoch also drives a profile's gradient bits.
    rate_q24
        Learning rate times ``2^24``, an integer: integer profiles know no other.
    used
        Shift in force of each tensor that is not scanned in this step.
    training
        False for evaluation: no dropout, running statistics, every tensor scanned.
    """

    seed: int = 0
    step: int = 0
    epoch: int = 0
    rate_q24: int = 0
    used: Mapping[str, int] = field(default_factory=dict)
    training: bool = True


class Frame:
    """Values of a step by buffer name, released after their last reader."""

    def __init__(
        self,
        draft: Draft,
        inputs: StepInputs,
        parameters: Parameters,
        profile: NumericProfile,
        pool: Pool,
        threads: int | None,
        backend: str | None,
    ) -> None:
        self.draft = draft
        self.inputs, self.parameters, self.profile = inputs, parameters, profile
        self.threads, self.backend = threads, backend
        self.pool = pool
        self.values: dict[str, Value] = {}
        self.records: dict[str, ShiftRecord] = {}
        self.overflows: dict[str, int] = {}
        """Results of 16-bit kernels that are not finite, by item."""
        self.loss = float("nan")
        self.part: slice = slice(None)
        """Samples of the micro-batch that the current item computes."""
        self.arithmetic = PLAIN
        """Integer kernels that the current item is computed by."""
        self.narrow: frozenset[str] = frozenset()
        """Buffers that the current item may write as INT8: whoever reads them quantises them."""

    def put(self, name: str, value: Value) -> None:
        """Set what a buffer holds, in the buffer's own shape where a flatten lies between."""
        value = self._shaped(name, value)
        if (array := array_of(value)) is not None:
            self.pool.hold(array)  # before the release: a micro-batch puts the same memory again
        self.release(name)
        self.values[name] = value

    def _shaped(self, name: str, value: Value) -> Value:
        """View a result with the axes of its buffer: flat and mapped features are one memory."""
        buffer = self.draft.buffers.get(name)
        array = array_of(value)
        if buffer is None or array is None or array.ndim == len(buffer.shape):
            return value
        shape = self.shape(name, len(array))
        if prod(shape) != array.size or isinstance(value, Accumulator):
            return value  # a weight gradient, or a mask that samples share
        view = array.reshape(shape)
        return QTensor(view, value.exponent) if isinstance(value, QTensor) else as_floats(view)

    def release(self, name: str) -> None:
        """Forget a buffer; its memory serves again."""
        value = self.values.pop(name, None)
        if value is not None and (array := array_of(value)) is not None:
            self.pool.drop(array)

    def get(self, name: str) -> Value:
        """What a buffer holds: a value of this step, or a weight."""
        value = self.values.get(name)
        return self.parameters.value(name) if value is None else value

    def pass_on(self, source: str, target: str) -> None:
        """Let a buffer hold what another holds; of a weight a copy, since updates write in place.

        Nothing says that whoever reads ``target`` is done before the weight is updated.
        """
        value = self.get(source)
        if source not in self.values and isinstance(value, QTensor):
            copy = self.take(value.shape, np.int8)
            copy[...] = value.int8
            value = QTensor(copy, value.exponent)
        self.put(target, value)

    def quantised(self, name: str) -> QTensor:
        """An INT8 tensor."""
        value = self.get(name)
        if not isinstance(value, QTensor):
            raise _mismatch(name, value, "an INT8 tensor")
        return value

    def floats(self, name: str) -> Floats:
        """An FP32 tensor; one that was handed on as INT8 is widened by its first reader."""
        value = self.get(name)
        if isinstance(value, QTensor) and self._wide(name):
            self.put(name, dequantise(value, self.take(value.shape, np.float32), self.threads))
            value = self.values[name]
        return as_floats(value)

    def handed_on(self, name: str) -> QTensor | None:
        """An FP32 tensor that was handed on as INT8 and not widened since, if it is one."""
        value = self.get(name)
        return value if isinstance(value, QTensor) and self._wide(name) else None

    def _wide(self, name: str) -> bool:
        """Whether a buffer is FP32 on the phone, whatever stands for it here."""
        return name in self.values and self.draft.buffers[name].item_bytes == 4

    def accumulator(self, name: str) -> Accumulator:
        """INT32 sums that wait for their rescale."""
        value = self.get(name)
        if not isinstance(value, Accumulator):
            raise _mismatch(name, value, "INT32 sums")
        return value

    def labels(self, name: str) -> NDArray[np.int64]:
        """Class indices."""
        value = self.get(name)
        assert isinstance(value, np.ndarray)
        return value.astype(np.int64, copy=False)

    def shape(self, name: str, batch: int | None = None) -> tuple[int, ...]:
        """Shape of a buffer's array, channels last; with another batch where one is given."""
        first, *rest = channels_last(self.draft.buffers[name].shape)
        return (first if batch is None else batch, *rest)

    def owner(self, subject: str) -> Item:
        """The kernel with MACs whose accumulator a scan or a requantise handles."""
        return self.draft.first(subject)

    def rule(self, item: Item) -> RescaleRule:
        """How the profile rescales the result of ``item``."""
        role = _TENSOR_ROLE[item.role]
        split = "#" in item.name
        return rule_of(self.profile, role, item.op.kind, self.inputs.epoch, split=split)

    def take(self, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Return memory for a result, with any content."""
        return self.pool.take(shape, dtype)

    def key(self, name: str) -> int:
        """64-bit key of the random draws of a tensor in this step."""
        seed, step = self.inputs.seed, self.inputs.step
        return draw_u32(seed, step, name, "high") << 32 | draw_u32(seed, step, name, "low")

    def record(self, subject: str, record: ShiftRecord) -> None:
        """Note what a rescale met; micro-batches of one tensor are joined."""
        known = self.records.get(subject)
        self.records[subject] = record if known is None else known.joined(record)


def rows(item: Item, array: NDArray[Any]) -> NDArray[Any]:
    """View a tensor as the kernel of an item has it: a linear layer's is rows of features."""
    return array.reshape(len(array), -1) if item.op.kind == "linear" else array


def _mismatch(name: str, value: Value, wanted: str) -> NumericError:
    return NumericError(
        f"{name} holds {type(value).__name__} where {wanted} is read: the plan's precision and "
        "rescale choices do not fit the kernels; report it with the plan file"
    )


Kernel = Callable[[Frame, Item], None]
_KERNELS: dict[tuple[str, Role, str], Kernel] = {}


def numeric(kind: str, dtype: str, *roles: Role) -> Callable[[Kernel], Kernel]:
    """Register the kernel of an operator kind for a data type and roles (default: forward)."""

    def add(kernel: Kernel) -> Kernel:
        for role in roles or (Role.FORWARD,):
            _KERNELS[kind, role, dtype] = kernel
        return kernel

    return add


def kernel_for(kind: str, role: Role, dtype: str) -> Kernel:
    """Return a kernel that is registered already."""
    return _KERNELS[kind, role, dtype]


def kernel_of(item: Item) -> Kernel:
    """Return the kernel that computes an item.

    Raises
    ------
    NumericError
        No kernel is known for its operator, role and data type.
    """
    kernel = _KERNELS.get((item.op.kind, item.role, item.dtype))
    if kernel is None:
        kinds = sorted({kind for kind, _, dtype in _KERNELS if dtype == item.dtype})
        raise NumericError(
            f"{item.name}: no numeric kernel of {item.op.kind} ({item.role.value}, {item.dtype}); "
            f"known in {item.dtype}: {', '.join(kinds)}"
        )
    return kernel
