"""Layers, stores and rules as the integers that the C kernels take."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.conv import Conv2d
from kernels.int8.stored import Store
from kernels.int8.update import WideWeight
from kernels.pool import MaxPool2d
from kernels.profiles import RescaleRule, Small
from kernels.quantised import QTensor
from kernels.rounding import Rounding

ROUNDINGS = (
    Rounding.TRUNC,
    Rounding.HALF_AWAY,
    Rounding.HALF_UP,
    Rounding.HALF_EVEN,
    Rounding.PSTO,
)
"""In the order of ``enum rule`` of ``c/rounding.h``."""
_SMALL = (Small.CAST, Small.CLIP, Small.SCALE_UP)
"""In the order of ``enum small`` of ``c/rescale.h``."""


def store_words(store: Store | None) -> list[int]:
    """Whether to store INT8, the rule, the shift and the clip."""
    if store is None:
        return [0, 0, 0, -128, 127]
    return [1, ROUNDINGS.index(store.rounding), store.shift, *store.clip]


def rule_words(rule: RescaleRule) -> list[int]:
    """The fields of a profile's rule."""
    return [
        ROUNDINGS.index(rule.rounding),
        rule.bits,
        *rule.clip,
        _SMALL.index(rule.small),
        rule.one_becomes,
        int(rule.drop_unit),
    ]


def add_lefts(terms: Sequence[QTensor], exponent: int) -> list[int]:
    """Left shifts of the terms of a sum to its exponent; negative ones round to the right."""
    room = 23 - (len(terms) - 1).bit_length()
    return [min(max(term.exponent - exponent, -31), room) for term in terms]


def update_shifts(weight: WideWeight, exponent: int) -> tuple[int, int]:
    """Left and right shift of a gradient of this exponent to that of the velocity."""
    left = exponent - weight.velocity_exponent
    return min(max(left, 0), 40), min(max(-left, 0), 62)


def conv_words(op: Conv2d) -> list[int]:
    """Sizes of a convolution, channels last."""
    sizes = [op.n, op.h, op.w, op.c_in, op.c_out, op.k_h, op.k_w]
    return [*sizes, op.stride, op.pad_h, op.pad_w, op.dilation, op.groups]


def pool_words(op: MaxPool2d) -> list[int]:
    """Sizes of a pooling, channels last, and of its output."""
    sizes = [op.n, op.h, op.w, op.c, op.k_h, op.k_w]
    return [*sizes, op.stride, op.pad_h, op.pad_w, op.h_out, op.w_out]
