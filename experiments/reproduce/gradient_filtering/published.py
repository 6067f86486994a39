"""Published numbers of gradient filtering (Yang, Li, Marculescu, CVPR 2023, arXiv 2301.00330)."""

from __future__ import annotations

from typing import NamedTuple

PAPER = "Yang et al., CVPR 2023 (arXiv 2301.00330)"
TABLE_2, TABLE_4, TABLE_11 = (
    f"{PAPER}, table 2",
    f"{PAPER}, table 4",
    f"{PAPER}, supplementary table 11, CIFAR-10",
)
FIGURE_6 = (
    f"{PAPER}, figure 6; values read from the vector figure of SLDGroup/GradientFilter-CVPR23, "
    "segmentation/custom_op/latency/speedup_mem.pdf"
)
MEGA = 10**6
KIB, MIB = 1 << 10, 1 << 20


class Counted(NamedTuple):
    """Operations of one sample's backward pass, with the last ``layers`` convolutions trained.

    ``layers`` is 0 for all; ``patch`` 1 for back-propagation. ``saved`` is the published saved
    memory in bytes, None where none is printed, and ``digit`` a unit of its last digit.
    """

    model: str
    classes: int
    layers: int
    patch: int
    operations: float
    source: str
    saved: float | None = None
    digit: float = 0.0


R18, R34, MBV2 = "resnet18-imagenet", "resnet34-imagenet", "mobilenet-v2"

_T11 = (
    (1, (128.25, 487.68, 847.15, 1140.0)),
    (2, (8.18, 26.80, 45.45, 60.01)),
    (4, (1.88, 7.93, 13.99, 19.12)),
    (7, (0.303, 3.21, 6.12, 8.90)),
)
"""Millions of operations for 1 to 4 trained layers, by patch."""

_DIGIT = 0.01
_T2 = (
    (MBV2, 0, 1, 1130.0, 24.33 * MIB, _DIGIT * MIB),
    (MBV2, 2, 1, 113.68, 245 * KIB, KIB),
    (MBV2, 4, 1, 160.00, 459.38 * KIB, _DIGIT * KIB),
    (MBV2, 2, 2, 39.27, 80 * KIB, KIB),
    (MBV2, 4, 2, 53.96, 150 * KIB, KIB),
    (R18, 0, 1, 5420.0, 8.33 * MIB, _DIGIT * MIB),
    (R18, 2, 1, 489.20, 196 * KIB, KIB),
    (R18, 4, 1, 1140.0, 490 * KIB, KIB),
    (R18, 2, 2, 28.32, 64 * KIB, KIB),
    (R18, 4, 2, 61.53, 112 * KIB, KIB),
    (R34, 0, 1, 11170.0, 13.11 * MIB, _DIGIT * MIB),
)
"""Model, layers, patch, millions of operations, saved bytes, a unit of their last digit."""

COUNTED: tuple[Counted, ...] = (
    *(
        Counted(model, 1000, layers, patch, count * MEGA, TABLE_2, saved, digit)
        for model, layers, patch, count, saved, digit in _T2
    ),
    *(
        Counted(R18, 10, layers, patch, count * MEGA, TABLE_11)
        for patch, counts in _T11
        for layers, count in zip((1, 2, 3, 4), counts, strict=True)
    ),
)

BATCH = 32
CASES: tuple[tuple[int, int, int], ...] = (
    *((128, 120, 160), (256, 60, 80), (512, 30, 40), (512, 14, 14)),
    *((256, 14, 14), (128, 28, 28), (64, 56, 56)),
)
"""Channels (in and out), rows and columns of the measured layers: 3 x 3, stride 1, padding 1."""

SPEEDUPS: dict[tuple[str, int], tuple[float, ...]] = {
    ("Jetson Nano CPU", 2): (23.3, 24.6, 24.9, 28.5, 27.5, 20.1, 17.5),
    ("Jetson Nano CPU", 4): (86.0, 76.9, 114.1, 72.9, 77.8, 66.7, 57.3),
    ("i9-11900KF", 2): (7.1, 16.3, 25.1, 28.7, 25.6, 23.9, 8.7),
    ("Raspberry Pi 3B", 2): (18.6, 18.7, 13.9, 20.5, 19.6, 18.4, 14.7),
    ("Jetson Nano GPU", 2): (19.2, 22.4, 21.7, 16.0, 13.4, 11.7, 12.0),
    ("Jetson Nano GPU", 4): (49.1, 60.3, 62.7, 36.8, 24.5, 28.7, 21.6),
    ("RTX 3090 Ti", 2): (4.1, 5.1, 4.9, 5.9, 3.5, 6.1, 4.0),
    ("RTX 3090 Ti", 4): (13.4, 12.1, 15.6, 9.7, 6.8, 10.1, 13.5),
}
"""Backward speed-up of each case, by device and patch."""

ENERGY: dict[tuple[str, int], float] = {
    ("Jetson Nano CPU", 2): 4.13,
    ("Jetson Nano CPU", 4): 1.15,
    ("Jetson Nano GPU", 2): 3.80,
    ("Jetson Nano GPU", 4): 1.22,
}
"""Energy of the filtered backward pass, percent of vanilla, mean over the cases."""
