"""What is published of Mandheling and could be read: its abstract, and the code of its release."""

from __future__ import annotations

from typing import Final

from cost_models.vtcm import DEPTH_ALIGN, round_up
from experiments.demo import PAPER_ENERGY, PAPER_TIME

ABSTRACT: Final = "Xu et al., MobiCom 2022 (arXiv 2206.07509), abstract"
OURS: Final = "no published value at hand"
STEP: Final = {"time": PAPER_TIME, "energy": PAPER_ENERGY}
"""Average gain of a training step over the engines of TFLite and MNN."""
CONVERGENCE: Final = {"time": 10.7, "energy": 13.1}
"""Largest gain until convergence, end to end."""
LOSS_POINTS: Final = {"smallest": 1.9, "largest": 2.7}
"""Accuracy lost against FP32; of which networks and data sets is not in the abstract."""
SPLIT_SOURCE: Final = (
    "UbiquitousLearning/Mandheling-DSP-Training: NITI_GradientSplitConv_Int8.cpp (loop), "
    "NITI_DSPConv_Int8_Grad.cpp (condition)"
)
_ROWS_OF_SLICES: Final = 8192
"""256 KiB of VTCM in slices of 32 channels."""


def released_micro_batch(rows: int, columns: int, batch: int) -> int:
    """Micro-batch that the released loop comes to for a weight gradient's map.

    It halves the batch until its depth, rounded up to 32 once, is at most ``8192 / rows /
    columns``. As released it rounds nothing up where 32 divides the batch, and never splits those;
    here they are rounded as the others are.

    >>> released_micro_batch(16, 16, 64), released_micro_batch(8, 8, 64)
    (32, 64)
    >>> released_micro_batch(32, 32, 64)  # of no use: the depth of the kernel stays 32
    8
    """
    most = _ROWS_OF_SLICES // columns // rows
    depth = round_up(batch, DEPTH_ALIGN)
    while depth > most and batch > 1:
        depth, batch = depth // 2, batch // 2
    return batch


def released_condition(columns: int) -> bool:
    """Whether the released code sends a strided weight gradient to its splitting kernel."""
    return 8 < columns <= 16
