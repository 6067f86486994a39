"""Saved activations in factors: a truncated Tucker decomposition, a truncated SVD, or ASI.

Instead of its input a convolution keeps a small core and a matrix for each compressed axis, and
restores the input for its weight gradient (Nguyen et al., *Activation Map Compression through
Tensor Decomposition for Deep Learning*, NeurIPS 2024, arXiv 2411.06346). The forward pass and the
input gradient stay exact. Compressing the axis of samples alone is their SVD variant.

Activation subspace iteration (ASI; Nguyen et al., ICML 2025, arXiv 2505.05086) keeps the same core
and factors, but its factors live from step to step: each step makes one iteration from those of the
step before, ``U = orthonormal(A (A^T U))`` of the input ``A`` unfolded along the axis, in the place
of an eigenproblem.

The released code contracts the weight gradient with the factors, which is cheaper than to restore
the input first, as it is done here; kept memory and values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

from kernels.operators import Operator, OperatorError, Role, Shape, Work
from kernels.windows import check_sizes

Ranks = tuple[int, int, int, int]
EIGEN_OPERATIONS = 9
"""Operations per ``dim^3`` of a symmetric eigenproblem with vectors (Golub and Van Loan, *Matrix
Computations*, section 8.3: about ``9 n^3``)."""
ORTHONORMAL_OPERATIONS = 4
"""Operations per ``size * rank^2`` of two passes of modified Gram-Schmidt (the same, section 5.2:
``2 m n^2`` each)."""


@dataclass(frozen=True, slots=True)
class _Tucker(Operator):
    """``(n, c, h, w)`` kept with these ranks along samples, channels, rows and columns.

    A rank that is the size of its axis leaves that axis as it is, without a factor.
    """

    n: int
    c: int
    h: int
    w: int
    ranks: Ranks

    role: ClassVar[Role]

    def __post_init__(self) -> None:
        check_sizes(self.kind, n=self.n, c=self.c, h=self.h, w=self.w)
        fits = len(self.ranks) == 4 and all(
            isinstance(rank, int) and 1 <= rank <= size
            for rank, size in zip(self.ranks, self.whole, strict=False)
        )
        if not fits:
            raise OperatorError(
                f"{self.kind}: ranks = {self.ranks!r}; allowed: four from 1 to {self.whole}, for "
                "samples, channels, rows and columns"
            )

    @property
    def whole(self) -> Shape:
        """``(n, c, h, w)``."""
        return (self.n, self.c, self.h, self.w)

    @property
    def factors(self) -> tuple[tuple[int, int], ...]:
        """``(size, rank)`` of each compressed axis, in the order of ``whole``."""
        pairs = zip(self.whole, self.ranks, strict=True)
        return tuple((size, rank) for size, rank in pairs if rank < size)

    @property
    def core(self) -> int:
        """Elements of the core."""
        return prod(self.ranks)

    @property
    def bases(self) -> int:
        """Elements of all factors."""
        return sum(size * rank for size, rank in self.factors)

    @property
    def kept(self) -> int:
        """Elements of the core and of all factors."""
        return self.core + self.bases

    def products(self) -> Iterator[int]:
        """MACs of each step from the whole tensor to the core, or back."""
        left = prod(self.whole)
        for size, rank in self.factors:
            yield left * rank
            left = left // size * rank

    def with_batch(self, batch: int) -> Self:
        """The same for ``batch`` samples; a rank above the batch falls to it."""
        return replace(self, n=batch, ranks=(min(self.ranks[0], batch), *self.ranks[1:]))


@dataclass(frozen=True, slots=True)
class _Restore(_Tucker):
    """The input again: an operator of the weight gradient alone."""

    role: ClassVar[Role] = Role.WEIGHT_GRAD
    batch_splittable: ClassVar[bool] = False

    @property
    def batch(self) -> int:
        """Samples."""
        return self.n

    @property
    def output(self) -> Shape:
        """``(n, c, h, w)``."""
        return self.whole

    def work(self, role: Role) -> Work:
        """MACs of the products from the core back."""
        if role is not self.role:
            raise self.no_role(role)
        return Work(
            sum(self.products()), 0, tuple(prod(shape) for shape in self.inputs), prod(self.whole)
        )


@dataclass(frozen=True, slots=True)
class TuckerSave(_Tucker):
    """Decompose a convolution's input: Gram matrix and eigenvectors of each axis, then the core.

    Examples
    --------
    >>> save = TuckerSave(n=64, c=256, h=8, w=8, ranks=(16, 64, 4, 4))
    >>> save.kept, save.kept / (64 * 256 * 8 * 8)
    (33856, 0.0322875...)
    """

    kind: ClassVar[str] = "tucker_save"
    role: ClassVar[Role] = Role.FORWARD
    batch_splittable: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w),)``."""
        return (self.whole,)

    @property
    def output(self) -> Shape:
        """``(kept,)``."""
        return (self.kept,)

    def work(self, role: Role) -> Work:
        """MACs of Gram matrices and projections; element operations of the eigenproblems."""
        if role is not self.role:
            raise self.no_role(role)
        size = prod(self.whole)
        macs = sum(size * axis for axis, _ in self.factors) + sum(self.products())
        eigen = sum(EIGEN_OPERATIONS * axis**3 for axis, _ in self.factors)
        return Work(macs, eigen, (size,), self.kept)


@dataclass(frozen=True, slots=True)
class TuckerRestore(_Restore):
    """The input again, for the weight gradient."""

    kind: ClassVar[str] = "tucker_restore"

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((kept,),)``."""
        return ((self.kept,),)


@dataclass(frozen=True, slots=True)
class SubspaceSave(_Tucker):
    """Turn the bases of the step before towards a convolution's input, then make the core.

    One subspace iteration of each compressed axis. It overwrites the bases.

    Examples
    --------
    >>> save = SubspaceSave(n=64, c=256, h=8, w=8, ranks=(16, 64, 4, 4))
    >>> save.core, save.bases
    (16384, 17472)
    """

    kind: ClassVar[str] = "subspace_save"
    role: ClassVar[Role] = Role.FORWARD
    batch_splittable: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w), (bases,))``."""
        return (self.whole, (self.bases,))

    @property
    def output(self) -> Shape:
        """``(core,)``; the new bases take the place of the old."""
        return (self.core,)

    def work(self, role: Role) -> Work:
        """MACs of ``A^T U``, ``A V`` and the projections; operations to make bases orthonormal."""
        if role is not self.role:
            raise self.no_role(role)
        size = prod(self.whole)
        macs = 2 * sum(size * rank for _, rank in self.factors) + sum(self.products())
        turned = sum(ORTHONORMAL_OPERATIONS * axis * rank**2 for axis, rank in self.factors)
        return Work(macs, turned, (size, self.bases), self.kept)


@dataclass(frozen=True, slots=True)
class SubspaceRestore(_Restore):
    """The input again, from a core and the bases that it was made with."""

    kind: ClassVar[str] = "subspace_restore"

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((core,), (bases,))``."""
        return ((self.core,), (self.bases,))
