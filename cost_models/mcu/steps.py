"""What a layer's training steps are on a microcontroller: products and the work around them.

Batch 1. Forward of a convolution multiplies weights by windows (im2row), the weight gradient errors
by windows, the input gradient turned weights by windows of zero-padded errors, at every input
position: more products than the count of the operator where the layer has stride or no padding.
Source: pulp-platform/pulp-trainlib, README and ``lib/sources``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, prod

from cost_models.mcu.counts import Counts
from cost_models.mcu.products import Kernel, MatMul, McuError, product_counts
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Operator, Role

NOTHING = Counts()
SERIAL = 1
"""Cores of work that no core shares."""
UPDATE_CYCLES = 5
"""Of plain SGD on a parameter: two loads, a wait, a multiply-add, a store. Other optimisers take as
many times more as they have operations: derived, since no count of one is released."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One parallel call of a step: a product, or elements that are moved or computed.

    Attributes
    ----------
    product
        The matrix product, or None.
    one_core
        Whether every core does all of it, which is as slow as one core.
    by_columns
        Whether the released code shares out columns where no kernel is chosen.
    work
        The busiest core's work, where it is no product.
    """

    product: MatMul | None = None
    one_core: bool = False
    by_columns: bool = False
    work: Counts = NOTHING
    shared: int = 0
    """Units of work that are shared out among cores (channels, rows, elements)."""

    def counts(self, kernel: Kernel, cores: int, fpus: int) -> Counts:
        """Count the busiest core's work with a kernel for the products."""
        if self.product is None:
            part = ceil(self.shared / cores) / self.shared
            return _scaled(self.work, part) + Counts(calls=1)
        if self.by_columns and not kernel.by_columns:
            kernel = replace(kernel, by_columns=True)
        if self.one_core:
            return product_counts(self.product, kernel, SERIAL, max(1, fpus // cores))
        if self.product.groups > 1:
            mine = replace(self.product, groups=ceil(self.product.groups / cores))
            busy = min(cores, ceil(self.product.groups / mine.groups))
            return product_counts(mine, kernel, SERIAL, max(1, fpus // busy))
        return product_counts(self.product, kernel, cores, fpus)


def _scaled(counts: Counts, part: float) -> Counts:
    return Counts(
        counts.issued * part, windows=counts.windows * part, compares=counts.compares * part,
        exponentials=counts.exponentials * part,
    )  # fmt: skip


def moved(elements: int, shared: int) -> Phase:
    """Elements copied one by one with computed addresses: im2row, a transposition."""
    return Phase(work=Counts(windows=elements), shared=shared)


@dataclass(frozen=True, slots=True)
class Part:
    """Channels and positions of a convolution that are computed at once.

    Positions are those that the step walks over: of the output forward and in the weight gradient,
    of the input in the input gradient.
    """

    c_in: int
    c_out: int
    rows: int
    columns: int

    @property
    def places(self) -> int:
        """Positions."""
        return self.rows * self.columns


def whole(op: Conv2d, role: Role) -> Part:
    """All of a convolution in a role."""
    walked = (op.h, op.w) if role is Role.INPUT_GRAD else (op.h_out, op.w_out)
    return Part(op.c_in, op.c_out, *walked)


def conv_phases(op: Conv2d, role: Role, part: Part | None = None) -> Iterator[Phase]:
    """Calls of a convolution over all channels, channels-first; of a part of it where one is given.

    Where windows are single positions, the maps are the matrices.
    """
    part = whole(op, role) if part is None else part
    window, places, windows = op.k_h * op.k_w, part.places, not op.pointwise
    if role is Role.INPUT_GRAD:
        yield moved(part.c_in * part.c_out * window, part.c_in)
    if windows:
        channels = part.c_out if role is Role.INPUT_GRAD else part.c_in
        yield moved(channels * window * places, channels)
    if role is Role.FORWARD:
        yield Phase(MatMul(part.c_out, part.c_in * window, places, windows))
    elif role is Role.WEIGHT_GRAD:
        yield Phase(MatMul(part.c_out, places, part.c_in * window, not windows))
    else:
        yield Phase(MatMul(part.c_in, part.c_out * window, places, windows))


def depthwise_phases(
    op: Conv2d, role: Role, one_core_backward: bool, part: Part | None = None
) -> Iterator[Phase]:
    """Calls of a depthwise convolution: a small product for each channel, channels shared out.

    ``one_core_backward``: as released, where both gradients loop over all channels on every core
    (``pulp_conv_dw_fp32.c`` and ``_fp16.c`` since b356c84, through ``mm_dw``).
    """
    part = whole(op, role) if part is None else part
    window, places, channels = op.k_h * op.k_w, part.places, part.c_out
    yield moved(channels * window * places, channels)
    if role is Role.WEIGHT_GRAD:
        yield Phase(MatMul(1, places, window, groups=channels), one_core_backward)
    else:
        one_core = one_core_backward and role is Role.INPUT_GRAD
        yield Phase(MatMul(1, window, places, True, channels), one_core)


def part_phases(
    op: Conv2d, role: Role, one_core_backward: bool, part: Part | None = None
) -> Iterator[Phase]:
    """Calls of a part of a convolution, depthwise or over all channels; all of it by default."""
    if op.groups > 1:
        return depthwise_phases(op, role, one_core_backward, part)
    return conv_phases(op, role, part)


def linear_phases(op: Linear, role: Role) -> Iterator[Phase]:
    """Calls of a fully connected layer: matrix by column, outer product, row by matrix."""
    outputs, inputs = op.weights[0]
    if role is Role.FORWARD:
        yield Phase(MatMul(outputs, inputs, 1))
    elif role is Role.WEIGHT_GRAD:
        yield Phase(MatMul(outputs, 1, inputs))
    else:
        yield Phase(MatMul(1, outputs, inputs), by_columns=True)


def relu_counts(elements: int, role: Role, cores: int) -> Counts:
    """The busiest core's work of a ReLU."""
    phase = relu_phase(elements, role)
    return _scaled(phase.work, ceil(elements / cores) / elements) + Counts(calls=1)


def relu_phase(elements: int, role: Role) -> Phase:
    """A load, a comparison, a store; backward loads the error besides."""
    issued = elements * (3 if role is Role.FORWARD else 4)
    return Phase(work=Counts(issued=issued, compares=elements), shared=elements)


def elementwise_phase(op: Operator, role: Role) -> Phase:
    """Loads (with a wait for the last), arithmetic and stores of any other operator."""
    work = op.work(role)
    reads = sum(work.reads)
    issued = reads + work.writes + work.alu_ops + max(work.reads, default=0)
    exponentials = prod(op.inputs[0]) if op.kind == "softmax_cross_entropy" else 0
    compares = work.alu_ops if op.kind == "max_pool" else 0
    shared = 1 if exponentials else max(work.writes, 1)
    return Phase(work=Counts(issued, compares=compares, exponentials=exponentials), shared=shared)


def phases_of(op: Operator, role: Role, *, one_core_backward: bool) -> tuple[Phase, ...]:
    """All parallel calls of an operator in a role.

    Raises
    ------
    McuError
        A batch above 1, or a grouped convolution that is not depthwise: no such kernel is released.
    """
    if op.batch != 1:
        raise McuError(
            f"{op.kind}: batch is {op.batch}; microcontroller kernels train on one sample at a "
            "time; use batch 1"
        )
    if role is Role.UPDATE:
        size = sum(prod(shape) for shape in op.weights)
        issued = UPDATE_CYCLES * op.work(role).alu_ops / op.update_work().alu_ops * size
        return (Phase(work=Counts(issued=issued), shared=size),)
    if isinstance(op, Linear):
        return tuple(linear_phases(op, role))
    if isinstance(op, Conv2d):
        if op.groups > 1 and not (op.depthwise and op.c_out == op.c_in):
            raise McuError(
                f"conv2d: groups is {op.groups} of {op.c_in} channels; allowed: 1, or one for "
                "each channel; choose another network"
            )
        return tuple(part_phases(op, role, one_core_backward))
    if op.kind == "relu":
        return (relu_phase(prod(op.output), role),)
    if op.work(role).macs:
        raise McuError(f"{op.kind} {role}: no such kernel is released; use an exact convolution")
    return (elementwise_phase(op, role),)
