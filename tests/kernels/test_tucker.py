"""Activations in factors: against NumPy's SVD, exact at full rank, least ranks for an energy.

Iterated bases: against an iteration written out in float64, and as they near the SVD's.
"""

from __future__ import annotations

import numpy as np
import pytest

from kernels.arrays import ArrayError
from kernels.fp32.tucker import AXES, iterate, rank_for, ranks_for, restore, restore_core, save
from kernels.operators import OperatorError, Role
from kernels.tucker import Ranks, SubspaceRestore, SubspaceSave, TuckerRestore, TuckerSave

WHOLE = (6, 5, 4, 7)
"""Samples, channels, rows, columns."""


def drawn(seed: int) -> np.ndarray:
    """An activation with a falling spectrum along each axis."""
    rng = np.random.default_rng(seed)
    n, c, h, w = WHOLE
    x = rng.standard_normal((n, h, w, c))
    for axis, size in zip(AXES, WHOLE, strict=True):
        mix = rng.standard_normal((size, size)) * 0.5 ** np.arange(size)
        x = np.moveaxis(np.tensordot(mix, x, (1, axis)), 0, axis)
    return np.ascontiguousarray(x / np.abs(x).max(), np.float32)


def oracle(x: np.ndarray, ranks: Ranks) -> np.ndarray:
    """Projected along each axis onto the left singular vectors of the original unfolding."""
    found = x.astype(np.float64)
    for axis, rank in zip(AXES, ranks, strict=True):
        lines = np.moveaxis(x.astype(np.float64), axis, 0)
        left, _, _ = np.linalg.svd(lines.reshape(len(lines), -1), full_matrices=False)
        basis = left[:, :rank]
        found = np.moveaxis(np.tensordot(basis @ basis.T, found, (1, axis)), 0, axis)
    return found


def there_and_back(x: np.ndarray, ranks: Ranks, threads: int = 1) -> np.ndarray:
    kept = save(x, TuckerSave(*WHOLE, ranks), threads=threads)
    assert kept.shape == (TuckerSave(*WHOLE, ranks).kept,)
    return restore(kept, TuckerRestore(*WHOLE, ranks), threads=threads)


@pytest.mark.parametrize(
    "ranks", [(2, 3, 2, 4), (1, 1, 1, 1), (3, 5, 4, 7), (6, 2, 4, 7), (5, 4, 3, 6), (6, 5, 2, 3)]
)
def test_restored_tensors_come_near_the_oracle(ranks: Ranks) -> None:
    for seed in range(4):
        x = drawn(seed)
        got = there_and_back(x, ranks)
        np.testing.assert_allclose(got, oracle(x, ranks), atol=2e-5)
        assert np.array_equal(got, there_and_back(x, ranks, threads=3))


def test_full_ranks_keep_every_bit() -> None:
    x = drawn(9)
    assert np.array_equal(there_and_back(x, WHOLE), x)
    assert TuckerSave(*WHOLE, WHOLE).kept == x.size


def test_the_first_axis_alone_is_the_truncated_svd() -> None:
    """Eckart and Young: no matrix of that rank is nearer, and the distance is the rest."""
    x = drawn(3)
    values = np.linalg.svd(x.reshape(6, -1).astype(np.float64), compute_uv=False)
    for rank in range(1, 7):
        left = x - there_and_back(x, (rank, *WHOLE[1:]))
        assert np.linalg.norm(left) == pytest.approx(
            np.sqrt((values[rank:] ** 2).sum()), rel=1e-3, abs=1e-5
        )


@pytest.mark.parametrize("energy", [0.5, 0.8, 0.9, 0.99])
def test_ranks_for_an_energy_are_the_least_that_hold_it(energy: float) -> None:
    x = drawn(5)
    for axis, size, rank in zip(AXES, WHOLE, ranks_for(x, energy), strict=True):
        lines = np.moveaxis(x, axis, 0).reshape(size, -1).astype(np.float64)
        shares = np.cumsum(np.linalg.svd(lines, compute_uv=False)[:size] ** 2)
        shares /= shares[-1]
        assert shares[rank - 1] >= energy - 1e-6
        assert rank == 1 or shares[rank - 2] < energy + 1e-6


def test_energies_and_spectra_at_the_edge() -> None:
    assert rank_for(np.zeros(4), 0.9) == 1
    assert rank_for(np.array([1.0, 1.0, 1.0]), 1.0) == 3
    for wrong in (0.0, 1.1, float("nan")):
        with pytest.raises(ArrayError, match="energy is"):
            rank_for(np.ones(2), wrong)
    for odd in (np.nan, np.inf):
        with pytest.raises(ArrayError, match="values hold one that is not finite"):
            rank_for(np.array([1.0, odd]), 0.9)
    with pytest.raises(ArrayError, match="x has shape"):
        save(np.zeros((1, 2, 3, 4), np.float32), TuckerSave(*WHOLE, (1, 1, 1, 1)))


def test_kept_elements_and_work_by_hand() -> None:
    op = TuckerSave(n=8, c=4, h=6, w=5, ranks=(2, 4, 3, 5))
    assert op.factors == ((8, 2), (6, 3))
    assert op.kept == 2 * 4 * 3 * 5 + 8 * 2 + 6 * 3
    size, after = 8 * 4 * 6 * 5, 2 * 4 * 6 * 5
    work = op.work(Role.FORWARD)
    assert work.macs == size * (8 + 6) + size * 2 + after * 3
    assert work.alu_ops == 9 * (8**3 + 6**3)
    back = TuckerRestore(n=8, c=4, h=6, w=5, ranks=op.ranks)
    assert back.work(Role.WEIGHT_GRAD).macs == size * 2 + after * 3
    assert op.with_batch(1).ranks == (1, 4, 3, 5)
    assert back.batch == 8
    with pytest.raises(OperatorError, match="does not exist"):
        op.work(Role.INPUT_GRAD)
    for ranks in ((0, 1, 1, 1), (9, 1, 1, 1), (1, 1, 1)):
        with pytest.raises(OperatorError, match=r"ranks = .*four from 1 to"):
            TuckerSave(8, 4, 6, 5, ranks)  # type: ignore[arg-type]


def unfolded(x: np.ndarray, axis: int) -> np.ndarray:
    lines = np.moveaxis(x.astype(np.float64), axis, 0)
    return lines.reshape(len(lines), -1)


def split(flat: np.ndarray, ranks: Ranks) -> dict[int, np.ndarray]:
    """The basis of each compressed axis."""
    found, first = {}, 0
    for axis, size, rank in zip(AXES, WHOLE, ranks, strict=True):
        if rank < size:
            found[axis] = flat[first : first + size * rank].reshape(size, rank).astype(np.float64)
            first += size * rank
    return found


def iterated(x: np.ndarray, bases: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """One step for each axis: ``V = A^T U``, then ``U = QR(A V)`` with a positive diagonal."""
    found = {}
    for axis, basis in bases.items():
        lines = unfolded(x, axis)
        q, r = np.linalg.qr(lines @ (lines.T @ basis))
        found[axis] = q * np.sign(np.diag(r))
    return found


def inside(x: np.ndarray, bases: dict[int, np.ndarray]) -> np.ndarray:
    """What is left of ``x`` when it is projected onto a basis along each axis."""
    found = x.astype(np.float64)
    for axis, basis in bases.items():
        found = np.moveaxis(np.tensordot(basis @ basis.T, found, (1, axis)), 0, axis)
    return found


def first_bases(ranks: Ranks) -> np.ndarray:
    elements = SubspaceSave(*WHOLE, ranks).bases
    return np.random.default_rng(11).standard_normal(elements).astype(np.float32)


@pytest.mark.parametrize("ranks", [(2, 3, 2, 4), (1, 1, 1, 1), (3, 5, 4, 7), (6, 2, 4, 7)])
def test_each_step_iterates_once_from_the_bases_of_the_last(ranks: Ranks) -> None:
    op, back = SubspaceSave(*WHOLE, ranks), SubspaceRestore(*WHOLE, ranks)
    bases, wanted = first_bases(ranks), split(first_bases(ranks), ranks)
    other = bases.copy()
    for seed in range(4):  # another input each step
        x = drawn(seed)
        core = iterate(x, bases, op, threads=1)
        wanted = iterated(x, wanted)
        for axis, basis in split(bases, ranks).items():
            np.testing.assert_allclose(basis, wanted[axis], atol=1e-4)
        got = restore_core(core, bases, back, threads=1)
        np.testing.assert_allclose(got, inside(x, wanted), atol=1e-4)
        assert np.array_equal(core, iterate(x, other, op, threads=3))
        assert np.array_equal(bases, other)


@pytest.mark.parametrize("ranks", [(2, 3, 2, 4), (6, 2, 4, 7), (2, 2, 2, 2)])
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_steps_on_one_input_near_the_subspaces_of_its_svd(ranks: Ranks, seed: int) -> None:
    """The tangent of the largest angle falls by ``(s[r] / s[r - 1])^2`` a step or faster."""
    x, op, bases = drawn(seed), SubspaceSave(*WHOLE, ranks), first_bases(ranks)
    spectra = {axis: np.linalg.svd(unfolded(x, axis))[:2] for axis in split(bases, ranks)}
    before: dict[int, float] = {}
    for step in range(30):
        iterate(x, bases, op, threads=1)
        for axis, basis in split(bases, ranks).items():
            left, values = spectra[axis]
            rank = basis.shape[1]
            rest, held = left[:, rank:].T @ basis, left[:, :rank].T @ basis
            tangent = float(np.linalg.norm(rest @ np.linalg.inv(held), 2))
            ratio = (values[rank] / values[rank - 1]) ** 2
            if step:
                assert tangent <= 1.01 * ratio * before[axis] + 1e-5
            before[axis] = tangent
            if step == 29 and ratio < 0.5:
                assert tangent < 1e-5


def test_bases_follow_what_batches_share_and_not_their_samples() -> None:
    """With another batch in each step, a rank below the batch costs more than it does an SVD."""
    rng = np.random.default_rng(8)
    maps = drawn(3).reshape(WHOLE[0], -1)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)

    def batch() -> np.ndarray:
        x = (rng.standard_normal((WHOLE[0], WHOLE[0])) @ maps).reshape(drawn(3).shape)
        return np.ascontiguousarray(x, np.float32)

    excess = {}
    for ranks in ((6, 3, 2, 3), (2, 5, 4, 7)):
        op, back = SubspaceSave(*WHOLE, ranks), SubspaceRestore(*WHOLE, ranks)
        bases = first_bases(ranks)
        ratios = []
        for step in range(30):
            x = batch()
            left = np.linalg.norm(x - restore_core(iterate(x, bases, op), bases, back))
            if step >= 3:
                ratios.append(left / np.linalg.norm(x - there_and_back(x, ranks)))
        excess[ranks[0]] = float(np.median(ratios)) - 1
    assert excess[6] < 0.005
    assert excess[2] > 0.04


def test_inputs_of_less_rank_than_kept_leave_bases_orthonormal() -> None:
    ranks = (3, 3, 2, 3)
    op, back, bases = (
        SubspaceSave(*WHOLE, ranks),
        SubspaceRestore(*WHOLE, ranks),
        first_bases(ranks),
    )
    line = np.einsum("n,h,w,c->nhwc", *(np.arange(1.0, size + 1) for size in (6, 4, 7, 5)))
    for x in (np.zeros_like(line), line, drawn(1)):
        core = iterate(x.astype(np.float32), bases, op)
        for basis in split(bases, ranks).values():
            np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-6)
        if x is not line:
            continue
        got = restore_core(core, bases, back)
        np.testing.assert_allclose(got, line, rtol=1e-5)


def test_iterating_at_full_ranks_keeps_every_bit() -> None:
    x, none = drawn(9), np.zeros(0, np.float32)
    core = iterate(x, none, SubspaceSave(*WHOLE, WHOLE))
    assert np.array_equal(restore_core(core, none, SubspaceRestore(*WHOLE, WHOLE)), x)


def test_kept_elements_and_work_of_an_iteration_by_hand() -> None:
    op = SubspaceSave(n=8, c=4, h=6, w=5, ranks=(2, 4, 3, 5))
    assert (op.core, op.bases) == (2 * 4 * 3 * 5, 8 * 2 + 6 * 3)
    size, after = 8 * 4 * 6 * 5, 2 * 4 * 6 * 5
    work = op.work(Role.FORWARD)
    assert work.macs == 2 * size * (2 + 3) + size * 2 + after * 3
    assert work.alu_ops == 4 * (8 * 2**2 + 6 * 3**2)
    assert (work.reads, work.writes) == ((size, op.bases), op.kept)
    back = SubspaceRestore(n=8, c=4, h=6, w=5, ranks=op.ranks).work(Role.WEIGHT_GRAD)
    assert back.macs == size * 2 + after * 3
    assert back.reads == (op.core, op.bases)
    with pytest.raises(OperatorError, match="does not exist"):
        op.work(Role.WEIGHT_GRAD)
    with pytest.raises(ArrayError, match="bases has shape"):
        iterate(drawn(1), np.zeros(3, np.float32), SubspaceSave(*WHOLE, (1, 1, 1, 1)))
