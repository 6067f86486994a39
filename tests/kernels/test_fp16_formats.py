"""Rounding to 16-bit floats and their bits, against NumPy and ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from kernels.arrays import ArrayError
from kernels.fp16.formats import BF16, FP16, HalfFormat, decode, encode, overflowed, round_to

DTYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
EVERY = np.arange(1 << 16, dtype=np.uint16)
formats = pytest.mark.parametrize("form", [FP16, BF16], ids=lambda form: form.name)


@formats
def test_every_pattern_is_read_and_written(form: HalfFormat) -> None:
    wide = decode(EVERY, form)
    known = EVERY.view(DTYPES[form.name])
    np.testing.assert_array_equal(wide, known.astype(np.float32))
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(encode(wide, form)[numbers], EVERY[numbers])
    assert np.unique(encode(wide, form)[~numbers]).size == 1


@formats
def test_limits_are_those_of_the_type(form: HalfFormat) -> None:
    known = ml_dtypes.finfo(DTYPES[form.name])
    assert form.largest == float(known.max)
    assert form.quantum == float(known.smallest_subnormal)
    assert form.significand_bits == known.nmant + 1


@formats
def test_middles_and_their_neighbours_round_as_the_type_does(form: HalfFormat) -> None:
    wide = decode(EVERY, form)
    finite = np.unique(wide[np.isfinite(wide)]).astype(np.float64)
    middle = (finite[1:] + finite[:-1]) / 2
    x = np.concatenate(
        [finite, middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)]
    )
    above = np.nextafter(np.float64(form.largest), np.inf)
    x = np.concatenate([x, [above, -above, 1e300, np.inf, -np.inf, np.nan, -0.0, 1e-300, -1e-300]])
    with np.errstate(over="ignore"):
        got, wanted = round_to(x, form), x.astype(DTYPES[form.name])
    if form is BF16:  # ml_dtypes goes through float32, which rounds twice: only middles are safe
        with np.errstate(over="ignore"):
            through = x.astype(np.float32).astype(np.float64)
        keep = (through == x) | ~np.isfinite(x)
        got, wanted = got[keep], wanted[keep]
    np.testing.assert_array_equal(got, wanted.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted.astype(np.float32)))


@formats
def test_any_float32_rounds_as_the_type_does(form: HalfFormat) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 300_000, dtype=np.uint32)
    x = bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.astype(DTYPES[form.name]).astype(np.float32)
    got = round_to(x, form)
    np.testing.assert_array_equal(got, wanted)
    numbers = ~np.isnan(got)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(wanted[numbers]))


def test_what_overflowed_is_counted() -> None:
    assert overflowed(round_to(np.array([7e4, -7e4, np.nan, 65504.0, 0.0]), FP16)) == 3


def test_a_value_that_the_format_lacks_has_no_bits() -> None:
    with pytest.raises(ArrayError, match="round_to"):
        encode(np.array([0.1], np.float32), FP16)
