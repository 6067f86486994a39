"""Random inputs over the whole range of their integers, ends included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_bridge.hexagon.words import ROUNDINGS
from kernels.conv import Conv2d
from kernels.int8.stored import Store
from kernels.operators import OperatorError
from kernels.pool import MaxPool2d
from kernels.profiles import PROFILES, RescaleRule, TensorRole, rule_of
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP

Rng = np.random.Generator
_CLIPS = (NITI_CLIP, HEXAGON_CLIP, (-4, 4), (-1, 1))
_ROLES = tuple(TensorRole)
_CHANNELS = (1, 2, 3, 5, 8, 12, 16, 31, 32, 33, 48, 64, 65, 96)


def one_of(rng: Rng, options: tuple[int, ...]) -> int:
    """One of some integers."""
    return int(options[rng.integers(len(options))])


def int8s(rng: Rng, *shape: int) -> NDArray[np.int8]:
    """Uniform over -128 .. 127, or in one of five cases the ends and 0 only."""
    if rng.integers(5) == 0:
        return rng.choice(np.array([-128, -127, 0, 127], np.int8), shape)
    return rng.integers(-128, 128, shape, np.int8)


def int32s(rng: Rng, *shape: int) -> NDArray[np.int32]:
    """Of all magnitudes alike, with both ends of int32 and values next to powers of two."""
    values = rng.integers(-(2**31), 2**31, shape, np.int64)
    values >>= rng.integers(0, 32, shape) if rng.integers(2) else rng.integers(0, 32)
    near = (1 << rng.integers(0, 32, shape)) + rng.integers(-1, 2, shape)
    values = np.where(rng.integers(0, 6, shape) == 0, near * rng.choice([-1, 1], shape), values)
    return np.clip(values, -(2**31), 2**31 - 1).astype(np.int32)


def store(rng: Rng, likely: int | None = None) -> Store:
    """Any rule, clip and shift; half of the shifts near ``likely``, if given."""
    shift = int(rng.integers(-31, 32))
    if likely is not None and rng.integers(2):
        shift = min(max(likely + int(rng.integers(-2, 3)), -31), 31)
    rule = ROUNDINGS[rng.integers(len(ROUNDINGS))]
    return Store(shift, rule, _CLIPS[rng.integers(len(_CLIPS))])


def rule(rng: Rng) -> RescaleRule:
    """The rule of some profile, role, operator kind and epoch."""
    profile = list(PROFILES.values())[rng.integers(len(PROFILES))]
    kind = ("conv2d", "linear")[rng.integers(2)]
    return rule_of(profile, _ROLES[rng.integers(3)], kind, int(rng.integers(0, 200)))


def conv(rng: Rng, most_macs: int = 1 << 20) -> Conv2d:
    """A convolution of up to ``most_macs``: strides, dilations, groups, uneven windows."""
    while True:
        groups = one_of(rng, (1, 1, 1, 1, 2, 3, 4))
        try:
            op = Conv2d(
                n=one_of(rng, (1, 2, 3, 4, 7, 8, 9, 16, 17)),
                c_in=groups * one_of(rng, _CHANNELS),
                h=int(rng.integers(1, 13)),
                w=int(rng.integers(1, 13)),
                c_out=groups * one_of(rng, _CHANNELS),
                k=(one_of(rng, (1, 2, 3, 3, 5)), one_of(rng, (1, 2, 3, 3, 5))),
                stride=one_of(rng, (1, 1, 1, 2, 3)),
                pad=(int(rng.integers(0, 4)), int(rng.integers(0, 4))),
                dilation=one_of(rng, (1, 1, 1, 2)),
                groups=groups,
            )
        except OperatorError:
            continue
        weight = op.c_out * op.k_h * op.k_w * op.c_in // op.groups
        if op.n * op.h_out * op.w_out * weight <= most_macs:
            return op


def max_pool(rng: Rng) -> MaxPool2d:
    """A max-pooling, windows that share elements and ceil mode included."""
    while True:
        k = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        try:
            return MaxPool2d(
                n=int(rng.integers(1, 4)),
                c=one_of(rng, (1, 3, 16, 64, 127, 128, 129, 160)),
                h=int(rng.integers(1, 10)),
                w=int(rng.integers(1, 10)),
                k=k,
                stride=int(rng.integers(1, 4)),
                pad=(int(rng.integers(0, k[0] // 2 + 1)), int(rng.integers(0, k[1] // 2 + 1))),
                ceil_mode=bool(rng.integers(2)),
            )
        except OperatorError:
            continue
