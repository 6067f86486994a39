"""Instructions of the released matrix-product kernels, and the work of the busiest core.

Inner loops are counted as they are written: loads, multiply-adds, shuffles. A naive loop stalls one
cycle in each round, since its multiply-add waits for the value just loaded; unrolled loops fill
that slot. Sources: pulp-platform/pulp-trainlib, ``lib/sources/pulp_matmul_fp32.c`` and
``pulp_matmul_fp16.c``; dnadalini/PULP-TrainLib-Tutorial, Ex02 and Ex03.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from cost_models.mcu.counts import Counts
from kernels.fp16.released import that_fits

LANE_SUM: Final = 3
"""Instructions that add the two lanes of a sum: two extractions and an addition."""
OUTER_CYCLES: Final = 5
"""Of a product without a sum (k = 1): load, multiply, store; the multiplication waits for the load
and the store for the product."""


REGISTER_SUMS: Final = 8
"""Sums that fit the registers, which integers and floats share: "more than 2x4 or 4x2 unrolling"
fills them (the tutorial's Ex03). A kernel with more loads and stores the others in each round."""


class McuError(ValueError):
    """Something that a microcontroller cannot do; the message names it and what is possible."""


@dataclass(frozen=True, slots=True)
class MatMul:
    """``C[n, m] = A[n, k] B[k, m]``, ``groups`` times.

    Attributes
    ----------
    transposed
        Whether B lies in memory as m rows of k.
    """

    n: int
    k: int
    m: int
    transposed: bool = False
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.groups * self.n * self.k * self.m


@dataclass(frozen=True, slots=True)
class Kernel:
    """An inner loop that computes ``rows x columns`` outputs, ``depth`` products of each per round.

    Attributes
    ----------
    loads, multiply_adds
        Instructions of one round.
    shuffles, shuffles_transposed
        Instructions that arrange lanes in one round, by how B lies in memory.
    stall, stall_transposed
        Cycles of one round that wait for a load.
    lanes
        Whether sums of a transposed B are held in two lanes.
    lanes_always
        Whether they are so for any B.
    by_columns
        Whether cores share the columns, not the rows.
    """

    name: str
    rows: int
    columns: int
    depth: int
    loads: int
    multiply_adds: int
    shuffles: int = 0
    shuffles_transposed: int = 0
    stall: int = 0
    stall_transposed: int = 0
    lanes: bool = False
    lanes_always: bool = False
    by_columns: bool = False

    def round_cycles(self, transposed: bool, sharing: float) -> float:
        """Cycles of one round; an FPU that ``sharing`` cores use starts one operation a cycle."""
        shuffles = self.shuffles_transposed if transposed else self.shuffles
        stall = self.stall_transposed if transposed else self.stall
        issued = self.loads + self.multiply_adds + shuffles + stall + self.spilled
        return max(issued, self.multiply_adds * sharing)

    @property
    def spilled(self) -> int:
        """Loads and stores of one round for sums that no register is left for."""
        return 2 * max(0, self.rows * self.columns - REGISTER_SUMS)

    def instructions_per_mac(self, transposed: bool = False) -> float:
        """Instructions of the inner loop for each multiply-accumulate, none spilled."""
        shuffles = self.shuffles_transposed if transposed else self.shuffles
        issued = self.loads + self.multiply_adds + shuffles
        return issued / (self.rows * self.columns * self.depth)

    def block_counts(self, k: int, transposed: bool, sharing: float) -> Counts:
        """Work of one block of outputs with sums of ``k`` products."""
        outputs = self.rows * self.columns
        rounds = k // self.depth
        issued = rounds * self.round_cycles(transposed, sharing)
        if k % self.depth:  # one scalar product for each output: its operands and a multiply-add
            issued += outputs + self.rows + self.columns
        if self.lanes_always or (self.lanes and transposed):
            issued += LANE_SUM * outputs
        return Counts(issued=issued, blocks=1, outputs=outputs)


def unrolled(rows: int, columns: int, by_columns: bool = False) -> Kernel:
    """The scalar kernel that computes ``rows x columns`` outputs at once; 1 x 1 is the naive one.

    >>> [unrolled(*size).instructions_per_mac() for size in ((1, 1), (2, 1), (2, 4), (4, 4))]
    [3.0, 2.5, 1.75, 1.5]
    """
    name = "naive" if rows * columns == 1 else f"unroll_{rows}x{columns}"
    stall = int(rows * columns == 1)
    return Kernel(
        name + ("_m" if by_columns else ""), rows, columns, 1, rows + columns, rows * columns,
        stall=stall, stall_transposed=stall, by_columns=by_columns,
    )  # fmt: skip


def simd_2x4(by_columns: bool = False) -> Kernel:
    """Two products of each of two outputs in a round: a row of A, a pair of columns of B."""
    name = "simd_2x4" + ("_m" if by_columns else "")
    return Kernel(name, 1, 2, 2, 3, 2, shuffles=2, lanes=True, by_columns=by_columns)


def simd_4x8(by_columns: bool = False) -> Kernel:
    """Two products of each of eight outputs in a round: two rows of A, four columns of B."""
    name = "simd_4x8" + ("_m" if by_columns else "")
    return Kernel(name, 2, 4, 2, 6, 8, shuffles=4, lanes=True, by_columns=by_columns)


VECTOR_SIMD: Final = Kernel(
    "vector_simd", 1, 1, 2, 3, 1, shuffles=1, shuffles_transposed=1, lanes_always=True
)
"""The tutorial's vector-matrix kernel: two values of a column are loaded apart and packed."""
VECTOR_SIMD_T: Final = Kernel(
    "vector_simd_t", 1, 1, 2, 2, 1, stall=1, stall_transposed=1, lanes_always=True
)
"""The tutorial's vector-matrix kernel on a transposed matrix."""

_SIZES: Final = (
    (1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1), (8, 1), (2, 2), (2, 4), (4, 2), (4, 4),
)  # fmt: skip
SCALAR: Final = tuple(unrolled(*size, by) for by in (False, True) for size in _SIZES)
SIMD: Final = tuple(
    make(by) for by in (False, True) for make in (lambda by: unrolled(1, 1, by), simd_2x4, simd_4x8)
)
"""Released kernels by element type: those of FP32, and those of both 16-bit formats."""
KERNELS: Final = {kernel.name: kernel for kernel in (*SCALAR, *SIMD, VECTOR_SIMD, VECTOR_SIMD_T)}


def kernels_for(item_bytes: int) -> tuple[Kernel, ...]:
    """Released kernels for elements of 4 or 2 bytes.

    Raises
    ------
    McuError
        Elements of another size.
    """
    found = {4: SCALAR, 2: SIMD}.get(item_bytes)
    if found is None:
        raise McuError(
            f"item_bytes is {item_bytes}; allowed: 4 (FP32) or 2 (FP16, bfloat16); no kernels of "
            "other sizes are released"
        )
    return found


def fitting_kernel(kernel: Kernel, product: MatMul, cores: int) -> Kernel:
    """The kernel that really runs: too few rows, columns or products fall back to narrower ones."""
    by = kernel.by_columns
    rows, columns = product.n, product.m
    asked = kernel.name.removesuffix("_m")
    fits = that_fits(asked, product.k, columns, columns if by else rows, cores)
    if fits != asked:
        kernel = simd_2x4(by) if fits == "simd_2x4" else unrolled(1, 1, by)
    if kernel.name.startswith("unroll"):
        up, across = kernel.rows, kernel.columns
        mine, others = (rows, -(-columns // cores)) if by else (rows // cores, columns)
        while up > max(1, mine):
            up //= 2
        while across > max(1, others):
            across //= 2
        kernel = unrolled(up, across, by)
    return kernel


@dataclass(frozen=True, slots=True)
class Shared:
    """How a product is shared out: the busiest core's rows and columns, and cores without work."""

    rows: int
    columns: int
    idle_cores: int


def share_out(product: MatMul, cores: int, by_columns: bool) -> Shared:
    """Give each core ``ceil(n / cores)`` rows, or so many columns; the last ones may get none.

    >>> share_out(MatMul(10, 4, 4), 8, False)
    Shared(rows=2, columns=4, idle_cores=3)
    """
    whole = product.m if by_columns else product.n
    block = ceil(whole / cores)
    idle = cores - ceil(whole / block)
    if by_columns:
        return Shared(product.n, block, idle)
    return Shared(block, product.m, idle)


def product_counts(product: MatMul, kernel: Kernel, cores: int, fpus: int) -> Counts:
    """Work of the busiest core in one product, in one parallel call.

    Parameters
    ----------
    kernel
        One that was asked for; see :func:`fitting_kernel` for what runs.
    cores, fpus
        Cores at work, and the FPUs that they share.
    """
    kernel = fitting_kernel(kernel, product, cores)
    share = share_out(product, cores, kernel.by_columns)
    busy = cores - share.idle_cores
    sharing, one = max(1.0, busy / fpus), Counts(calls=1)
    if product.k == 1 and kernel.rows * kernel.columns == 1 and not kernel.by_columns:
        outputs = product.groups * share.rows * share.columns
        loops = product.groups * share.rows
        return one + Counts(issued=max(OUTER_CYCLES, sharing) * outputs, blocks=loops)
    scalar = unrolled(1, 1)
    whole_rows = share.rows // kernel.rows * kernel.rows
    whole_columns = share.columns // kernel.columns * kernel.columns
    blocks = (whole_rows // kernel.rows) * (whole_columns // kernel.columns)
    left = share.rows * share.columns - whole_rows * whole_columns
    block = kernel.block_counts(product.k, product.transposed, sharing)
    rest = scalar.block_counts(product.k, product.transposed, sharing)
    return one + _times(block, product.groups * blocks) + _times(rest, product.groups * left)


def _times(counts: Counts, factor: int) -> Counts:
    return Counts(counts.issued * factor, counts.blocks * factor, counts.outputs * factor)
