"""What a packet count is of: one call of an HVX kernel, in integers.

A shape is a kernel family, its sizes in a fixed order, and the form in which results leave. It is
the configuration of a sample and the question to the packet model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cost_models.errors import CalibrationError, shown, unknown_name
from kernels.conv import Conv2d
from kernels.operators import OperatorError
from kernels.pool import MaxPool2d

_CONV: Final = (
    "n", "h", "w", "c_in", "c_out", "k_h", "k_w", "stride", "pad_h", "pad_w", "dilation", "groups",
)  # fmt: skip
_POOL: Final = ("n", "h", "w", "c", "k_h", "k_w", "stride", "pad_h", "pad_w", "ceil_mode")
ROUNDINGS: Final = ("half_away", "half_up", "psto")
"""Rules by which the numeric profiles store INT8."""
STORES: Final = ("int32", "half_away", "half_up")
"""Forms of a product's result: accumulators, or INT8 by a known shift and one of two rules; the
profiles that round by ``psto`` never know the shift of a product beforehand."""
MAX_SIZE: Final = 1 << 28

SIZES: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": ("m", "k", "n"),
    "forward": _CONV,
    "input_grad": _CONV,
    "weight_grad": _CONV,
    "amax": ("elements",),
    "requantise": ("elements",),
    "rescale": ("elements",),
    "relu_forward": ("elements",),
    "relu_input_grad": ("elements",),
    "max_pool_forward": _POOL,
    "max_pool_input_grad": _POOL,
    "add": ("terms", "elements"),
    "transpose": ("matrices", "rows", "columns"),
    "to_d32": ("n", "h", "w", "c"),
    "from_d32": ("n", "h", "w", "c"),
    "rotate180": ("outputs", "taps", "channels"),
    "niti_update": ("elements",),
    "wide_update": ("elements",),
}
"""Names of the sizes of each family, in order; families are those of the kernels in
``hw_bridge/hexagon``."""

FORMS: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": STORES,
    "forward": STORES,
    "input_grad": STORES,
    "weight_grad": ("fresh", "into"),
    "requantise": ROUNDINGS,
    "rescale": ROUNDINGS,
    "add": ("known", "dynamic"),
    "wide_update": ("int8", "int32"),
}
"""Forms of each family that has several: the rule of an INT8 store, whether sums start at zero or
come on top of given ones, whether a sum's shift is known, the gradient's type."""


_SAME: Final = {"googlenet": "inception"}
"""Networks that are an earlier version of another, under a name of their own."""


def architecture(group: str) -> str:
    """Return what a network is a version of; of drawn shapes their group.

    Versions of one architecture have like layers: what is predicted of one by a fit that knows
    another is no prediction of an unseen network.

    >>> architecture("resnet34-imagenet"), architecture("vgg16"), architecture("drawn 2^10")
    ('resnet', 'vgg', 'drawn 2^10')
    """
    found = re.match(r"[a-z]+", group)
    if group.startswith("drawn") or found is None:
        return group
    return _SAME.get(found[0], found[0])


@dataclass(frozen=True, slots=True)
class PacketShape:
    """One call of a kernel, on one HVX thread.

    Attributes
    ----------
    family
        A key of :data:`SIZES`.
    sizes
        In the order of :data:`SIZES`.
    form
        One of :data:`FORMS`, empty where a family has one form.

    Raises
    ------
    CalibrationError
        An unknown family or form, a size that is missing or out of range, or sizes that make no
        layer.

    Examples
    --------
    >>> PacketShape("requantise", (4096,), "half_away").key
    'requantise/half_away/4096'
    """

    family: str
    sizes: tuple[int, ...]
    form: str = ""

    def __post_init__(self) -> None:
        names = SIZES.get(self.family)
        if names is None:
            raise CalibrationError(unknown_name("kernel family", self.family, tuple(SIZES)))
        forms = FORMS.get(self.family, ("",))
        if self.form not in forms:
            raise CalibrationError(unknown_name(f"form of {self.family}", self.form, forms))
        right = len(self.sizes) == len(names)
        if not right or not all(type(s) is int and 0 <= s <= MAX_SIZE for s in self.sizes):
            raise CalibrationError(
                f"sizes of {self.family} are {shown(self.sizes)}; allowed: integers "
                f"{', '.join(names)}, 0 .. 2^28"
            )
        try:
            self.layer()
        except OperatorError as cause:
            raise CalibrationError(f"{self.family}: sizes make no layer: {cause}") from None

    @property
    def key(self) -> str:
        """Unique name: family, form and sizes."""
        parts = (self.family, self.form, ",".join(map(str, self.sizes)))
        return "/".join(part for part in parts if part)

    def __getitem__(self, name: str) -> int:
        """A size by its name."""
        return self.sizes[SIZES[self.family].index(name)]

    def layer(self) -> Conv2d | MaxPool2d | None:
        """The layer of a family that has one."""
        if SIZES[self.family] is _CONV:
            n, h, w, c_in, c_out, k_h, k_w, stride, pad_h, pad_w, dilation, groups = self.sizes
            return Conv2d(
                n=n, c_in=c_in, h=h, w=w, c_out=c_out, k=(k_h, k_w), stride=stride,
                pad=(pad_h, pad_w), dilation=dilation, groups=groups,
            )  # fmt: skip
        if SIZES[self.family] is _POOL:
            n, h, w, c, k_h, k_w, stride, pad_h, pad_w, ceil_mode = self.sizes
            return MaxPool2d(
                n=n, c=c, h=h, w=w, k=(k_h, k_w), stride=stride, pad=(pad_h, pad_w),
                ceil_mode=bool(ceil_mode),
            )  # fmt: skip
        return None

    @classmethod
    def of_conv(cls, family: str, op: Conv2d, form: str) -> PacketShape:
        """Shape of a convolution in one of its roles."""
        sizes = (
            op.n, op.h, op.w, op.c_in, op.c_out, op.k_h, op.k_w, op.stride, op.pad_h, op.pad_w,
            op.dilation, op.groups,
        )  # fmt: skip
        return cls(family, sizes, form)

    @classmethod
    def of_pool(cls, family: str, op: MaxPool2d) -> PacketShape:
        """Shape of a max-pooling in one of its roles."""
        sizes = (
            op.n, op.h, op.w, op.c, op.k_h, op.k_w, op.stride, op.pad_h, op.pad_w,
            int(op.ceil_mode),
        )  # fmt: skip
        return cls(family, sizes)

    def document(self) -> dict[str, Any]:
        """The configuration of a sample."""
        return {"family": self.family, "sizes": list(self.sizes), "form": self.form}

    @classmethod
    def of_document(cls, config: Mapping[str, Any]) -> PacketShape:
        """Read what :meth:`document` wrote; other keys are left alone.

        Raises
        ------
        CalibrationError
            A field is missing or of another type, or see the class.
        """
        try:
            family, form, sizes = config["family"], config["form"], tuple(config["sizes"])
        except (KeyError, TypeError) as cause:
            raise CalibrationError(
                f"a packet sample is of {shown(dict(config))}; needed: family, form and sizes "
                f"({cause})"
            ) from None
        for name, word in (("family", family), ("form", form)):
            if not isinstance(word, str):
                raise CalibrationError(f"{name}: {shown(word)} is not allowed; give a word")
        return cls(family, sizes, form)
