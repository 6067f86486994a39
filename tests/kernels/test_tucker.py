"""Activations in factors: against NumPy's SVD, exact at full rank, least ranks for an energy."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.arrays import ArrayError
from kernels.fp32.tucker import AXES, rank_for, ranks_for, restore, save
from kernels.operators import OperatorError, Role
from kernels.tucker import Ranks, TuckerRestore, TuckerSave

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
