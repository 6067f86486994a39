"""What released INT8 training codes really compute, as data: one numeric profile for each.

A profile says how accumulators become INT8 (:class:`RescaleRule`), and which rule its input,
initial weights, loss, update, sums and split gradients follow. The kernels that carry the rules
out are in :mod:`kernels.int8`. INT8 clips are -127 .. 127, but for the DSP's -128 .. 127.

================  ==========  ==========  ===========  =============  ==============
profile           niti_v1     niti_v2     mandheling   mandheling     sandbox
                                          _cpu         _dsp
================  ==========  ==========  ===========  =============  ==============
activation,       psto        half_away   psto         half_up,       half_away
error                                                  -128 .. 127
a shift of 1      2           1           2            1              1
small values      cast        cast        cast         clip           scaled up
gradient          psto        psto        psto         psto           psto
its bits          0           5, 4, 3     conv 2, split 3, linear 3   7
input             v1          v2          v1, natural  v1, natural    v2
                                          logarithm    logarithm
initial weights   Xavier      Xavier      Xavier       Xavier         He normal
                  normal      uniform     normal       normal
loss              v1, sto     v2, float   v1, psto     v1, psto       exact softmax
update            int8, clip  int8, clip  int8, wrap   int8, wrap     wide, momentum
split gradients   int32       int32       aligned      aligned        int32
================  ==========  ==========  ===========  =============  ==============

Sources. NITI: wangmaolin/niti, ``ti_torch.py`` and ``ti_loss.py``, version 1 at commit 03c3122
(2020), version 2 at d097335 (2021); its ``//`` truncates (PyTorch 1.6, 1.7). Mandheling:
UbiquitousLearning/Mandheling-DSP-Training, ``execution-engine/source/backend/cpu/NITI_*.cpp`` and
``compute/CommonOptFunction.cpp``; on the DSP ``hexagon_nn/2.10.1/hexagon/ops/src/``
``niti_op_supernode_new.c`` and ``op_loss.c``.

Known differences, kept out on purpose: NITI takes the float32 logarithm of the largest magnitude
(too small at some values from ``2^21 + 1`` on), here it is exact. Where a negative shift is
undefined in the released code (C's ``1 << -1``, a division by 0 in NITI's gradients) the values
are taken unshifted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from kernels.quantised import BITS, shift_for
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP, Rounding

DROPPED = 31
"""A shift that turns every value of magnitude 1 and below into 0, by any rule."""


class ProfileError(ValueError):
    """A rule, role or value that no profile has; the message says what is allowed."""


class Small(StrEnum):
    """What happens to values that need no right shift.

    ``CAST``: stored as int8 by their low 8 bits (128 becomes -128). ``CLIP``: clipped, unshifted.
    ``SCALE_UP``: shifted left, so that no bit of an INT8 mantissa stays unused.
    """

    CAST = "cast"
    CLIP = "clip"
    SCALE_UP = "scale_up"


class TensorRole(StrEnum):
    """Which of training's tensors an accumulator becomes."""

    ACTIVATION = "activation"
    ERROR = "error"
    GRADIENT = "gradient"


class InputRule(StrEnum):
    """How a batch of floats enters. See :func:`kernels.int8.inputs.quantise_input`."""

    NITI_V1 = "niti_v1"
    NITI_V2 = "niti_v2"
    MANDHELING = "mandheling"


class InitRule(StrEnum):
    """Distribution of the initial weights, before they are quantised."""

    XAVIER_NORMAL = "xavier_normal"
    XAVIER_UNIFORM = "xavier_uniform"
    HE_NORMAL = "he_normal"


class LossRule(StrEnum):
    """Error of softmax cross-entropy. See :mod:`kernels.int8.loss`."""

    NITI_V1 = "niti_v1"
    NITI_V2 = "niti_v2"
    MANDHELING = "mandheling"
    SANDBOX = "sandbox"


class UpdateRule(StrEnum):
    """``W - g`` on int8 that clips or wraps, or wide weights with momentum."""

    INT8_CLIP = "int8_clip"
    INT8_WRAP = "int8_wrap"
    WIDE = "wide"


class SumRule(StrEnum):
    """Exponents of terms that meet. See :func:`kernels.int8.sums.add`.

    ``NITI_V1``: two terms, NITI's ``block_float_add``. ``WIDE``: aligned in INT32.
    """

    NITI_V1 = "niti_v1"
    WIDE = "wide"


class SplitRule(StrEnum):
    """How the gradients of micro-batches meet.

    ``INT32``: accumulators are added, then rescaled once: equal to no split, bit for bit.
    ``ALIGN_TRUNC``: each is rescaled by its own largest magnitude, then divided by a power of
    two toward zero to meet the largest (``NITI_GradientSplitConv_Int8.cpp``).
    """

    INT32 = "int32"
    ALIGN_TRUNC = "align_trunc"


@dataclass(frozen=True, slots=True)
class RescaleRule:
    """From the largest magnitude of an accumulator to its INT8 form.

    Attributes
    ----------
    rounding
        Any rule but ``stochastic``.
    bits
        Magnitude bits kept, 0 to 7; for gradients NITI's ``mu``.
    clip
        Least and largest int8 made by a shift.
    small
        What happens where no right shift is needed.
    one_becomes
        The shift used where 1 is needed: NITI's version 1 takes 2.
    drop_unit
        Whether a tensor whose largest magnitude is 1 becomes 0 (NITI's gradients).
    """

    rounding: Rounding
    bits: int = BITS
    clip: tuple[int, int] = NITI_CLIP
    small: Small = Small.CLIP
    one_becomes: int = 1
    drop_unit: bool = False

    def __post_init__(self) -> None:
        if self.rounding is Rounding.STOCHASTIC:
            raise ProfileError("rounding is stochastic; allowed: a rule without draws")
        if not 0 <= self.bits <= BITS:
            raise ProfileError(f"bits is {self.bits}; allowed: 0 .. {BITS}")

    def shift(self, amax: int) -> int:
        """Shift for accumulators of magnitudes up to ``amax``; negative: scale up.

        Raises
        ------
        QuantError
            A negative ``amax``.
        """
        needed = shift_for(amax, self.bits)
        if amax <= 1 and self.drop_unit:
            return DROPPED
        if amax == 0:
            return 0
        if needed == 1:
            return self.one_becomes
        return needed if self.small is Small.SCALE_UP else max(needed, 0)


@dataclass(frozen=True, slots=True)
class NumericProfile:
    """The arithmetic of one training code.

    Attributes
    ----------
    name
        As in :data:`PROFILES`.
    source
        Repository and what of it.
    activation, error, gradient
        Rescale rules of the three roles; ``gradient.bits`` holds for the kinds that
        ``gradient_bits`` does not name.
    gradient_bits
        (operator kind, bits) pairs.
    gradient_schedule
        (first epoch, bits) pairs in order, replacing both from that epoch on; may be empty.
    split_gradient_bits
        Bits of the gradients of micro-batches, where they differ.
    shared_dropout
        Whether one mask of a dropout serves all samples, as NITI's.
    clip_stops_error
        Whether no error passes a ReLU that stands at the end of INT8, nor one that pushes a logit
        there on. A stale shift clips values there; errors that push them on would move the
        weights unseen until the next scan, and training may diverge.
    input_rule, init, loss, update, sums, split
        The other rules, by name.
    """

    name: str
    source: str
    activation: RescaleRule
    error: RescaleRule
    gradient: RescaleRule
    input_rule: InputRule
    init: InitRule
    loss: LossRule
    update: UpdateRule
    sums: SumRule = SumRule.WIDE
    split: SplitRule = SplitRule.INT32
    gradient_bits: tuple[tuple[str, int], ...] = ()
    gradient_schedule: tuple[tuple[int, int], ...] = ()
    split_gradient_bits: int | None = None
    shared_dropout: bool = True
    clip_stops_error: bool = False


def rule_of(
    profile: NumericProfile,
    role: TensorRole,
    kind: str = "conv2d",
    epoch: int = 0,
    *,
    split: bool = False,
) -> RescaleRule:
    """Rescale rule of a role, with the gradient bits of the operator kind and epoch.

    Gradients of less than 7 bits are clipped to ``+-2^bits``: the bits are the learning rate, and
    a shift from an earlier step must not raise it.

    Parameters
    ----------
    profile
        One of :data:`PROFILES`, or your own.
    role
        Of the tensor that the accumulators become.
    kind
        The operator's kind, such as ``conv2d`` or ``linear``; counts for gradients only.
    epoch
        From 0; counts for gradients only.
    split
        Whether the gradient is that of a micro-batch.

    Examples
    --------
    >>> rule_of(PROFILES["niti_v2"], TensorRole.GRADIENT, epoch=120).bits
    4
    """
    if role is not TensorRole.GRADIENT:
        return profile.activation if role is TensorRole.ACTIVATION else profile.error
    bits = dict(profile.gradient_bits).get(kind, profile.gradient.bits)
    for first, scheduled in profile.gradient_schedule:
        if epoch >= first:
            bits = scheduled
    if split and profile.split_gradient_bits is not None:
        bits = profile.split_gradient_bits
    clip = profile.gradient.clip
    if bits < BITS:  # no scanned shift gives more; a stale one saturates there, as at 7 bits
        clip = (-(1 << bits), 1 << bits)
    return replace(profile.gradient, bits=bits, clip=clip)


def shift_of(
    profile: NumericProfile, role: TensorRole, amax: int, kind: str = "conv2d", epoch: int = 0
) -> int:
    """Shift that a profile takes for accumulators of magnitudes up to ``amax``.

    Returns
    -------
    int
        A right shift; negative to scale up; :data:`DROPPED` for gradients that NITI drops.

    Examples
    --------
    >>> v1 = PROFILES["niti_v1"]
    >>> [shift_of(v1, TensorRole.ACTIVATION, amax) for amax in (128, 129, 257)]
    [0, 2, 2]
    """
    return rule_of(profile, role, kind, epoch).shift(amax)


_V1 = RescaleRule(Rounding.PSTO, small=Small.CAST, one_becomes=2)
_V2 = RescaleRule(Rounding.HALF_AWAY, small=Small.CAST)
_DSP = RescaleRule(Rounding.HALF_UP, clip=HEXAGON_CLIP)
_SANDBOX = RescaleRule(Rounding.HALF_AWAY, small=Small.SCALE_UP)
_MANDHELING_GRADIENT = RescaleRule(Rounding.PSTO, bits=2, drop_unit=True)
_MANDHELING_BITS = (("conv2d", 2), ("linear", 3))
_MANDHELING = "UbiquitousLearning/Mandheling-DSP-Training"

_NITI_V1 = NumericProfile(
    name="niti_v1",
    source="wangmaolin/niti at 03c3122 (2020), ti_torch.py, ti_loss.py",
    activation=_V1,
    error=_V1,
    gradient=RescaleRule(Rounding.PSTO, bits=0, drop_unit=True),
    input_rule=InputRule.NITI_V1,
    init=InitRule.XAVIER_NORMAL,
    loss=LossRule.NITI_V1,
    update=UpdateRule.INT8_CLIP,
    sums=SumRule.NITI_V1,
)
"""LeNet's gradient bits; the released VGG-11 run takes 2 bits, from epoch 100 on -1."""
_NITI_V2 = NumericProfile(
    name="niti_v2",
    source="wangmaolin/niti at d097335 (2021), ti_torch.py, ti_loss.py",
    activation=_V2,
    error=_V2,
    gradient=RescaleRule(Rounding.PSTO, bits=5, small=Small.CAST, drop_unit=True),
    input_rule=InputRule.NITI_V2,
    init=InitRule.XAVIER_UNIFORM,
    loss=LossRule.NITI_V2,
    update=UpdateRule.INT8_CLIP,
    gradient_schedule=((0, 5), (100, 4), (150, 3)),
)
"""The schedule of its released CIFAR-10 runs (``results/*/results.log``)."""
_MANDHELING_CPU = NumericProfile(
    name="mandheling_cpu",
    source=f"{_MANDHELING}, NITI_Conv_Int8.cpp, NITI_GradientConv_Int8.cpp, NITI_Matmul_Int8.cpp",
    activation=_V1,
    error=_V1,
    gradient=_MANDHELING_GRADIENT,
    gradient_bits=_MANDHELING_BITS,
    input_rule=InputRule.MANDHELING,
    init=InitRule.XAVIER_NORMAL,
    loss=LossRule.MANDHELING,
    update=UpdateRule.INT8_WRAP,
    sums=SumRule.NITI_V1,
    split=SplitRule.ALIGN_TRUNC,
    split_gradient_bits=3,
)
"""``NITI_SGD.hpp`` subtracts int8 expressions with no clip to be seen: taken to wrap."""
_MANDHELING_DSP = replace(
    _MANDHELING_CPU,
    name="mandheling_dsp",
    source=f"{_MANDHELING}, niti_op_supernode_new.c, op_loss.c; gradients as mandheling_cpu",
    activation=_DSP,
    error=_DSP,
)
"""A known difference: its DSP requantises weight gradients like any output, to 7 bits, and the CPU
divides them by 16 (``CPUBackend.cpp``). With ``parallel.txt`` at 1 those of stride 1 and of 256
channels and less are made on the CPU instead, and that rule is taken for all here."""
_OWN = NumericProfile(
    name="sandbox",
    source="this repository",
    activation=_SANDBOX,
    error=_SANDBOX,
    gradient=replace(_SANDBOX, rounding=Rounding.PSTO),
    input_rule=InputRule.NITI_V2,
    init=InitRule.HE_NORMAL,
    loss=LossRule.SANDBOX,
    update=UpdateRule.WIDE,
    shared_dropout=False,
    clip_stops_error=True,
)

PROFILES: dict[str, NumericProfile] = {
    profile.name: profile
    for profile in (_NITI_V1, _NITI_V2, _MANDHELING_CPU, _MANDHELING_DSP, _OWN)
}
"""The profiles by name."""
