"""Networks in increments: groups of channels that run alone, so that any first few are a model.

Channels of every layer are divided into ``groups``; a group reads only itself in the layer below,
and the images in the first. Each group has its own block of the classifier, and the logits are the
sum over the groups that run. So parameters, MACs and activations grow linearly with the groups that
are active, later groups can be left out and taken back without retraining, and a group can be
trained while the earlier ones stay as they are (Xun et al., *Incremental Training and Group
Convolution Pruning for Runtime DNN Performance Scaling on Heterogeneous Embedded Platforms*,
MLCAD 2019, arXiv 2105.03600).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sim.model import INPUT, ForwardModel, ModelBuilder, ModelError, check_batch
from sim.zoo.registry import ModelInfo, Published, check_map

GROUPS: Final = 4
"""Increments of the published network: models of 25, 50, 75 and 100 %."""
WIDTHS: Final = (64, 192, 384, 256, 256)
"""Channels of AlexNet's five convolutions, all groups together (torchvision/models/alexnet.py)."""
HIDDEN: Final = 1024
"""Features of the hidden linear layer, all groups together; AlexNet has two of 4096."""
POOLED: Final = (1, 2, 5)
"""Convolutions that a 2x2 pooling follows, as in AlexNet."""
NAME: Final = "dynamic-alexnet"


def group_of(layer: str) -> int:
    """Group that a layer belongs to, from 1; 0 for what all share (the sum of the logits).

    Examples
    --------
    >>> group_of("g3/conv2"), group_of("logits")
    (3, 0)
    """
    head, _, rest = layer.partition("/")
    return int(head[1:]) if rest and head[:1] == "g" and head[1:].isdecimal() else 0


def groups_of(model: ForwardModel) -> int:
    """Groups that are active in a model; 0 if it has none."""
    return max(group_of(layer.name) for layer in model.layers)


def frozen_groups(model: ForwardModel, count: int) -> tuple[str, ...]:
    """Layers with parameters of the first ``count`` groups: what an increment leaves as it is.

    Raises
    ------
    ModelError
        The model has no groups, or ``count`` leaves none to train.
    """
    most = groups_of(model)
    if not 0 <= count < most:
        raise ModelError(
            f"{model.name}: cannot freeze {count} of {most} groups; "
            + (f"allowed: 0 to {most - 1}" if most else "load a model in groups")
        )
    names = (layer.name for layer in model.layers if layer.op.weights)
    return tuple(name for name in names if 1 <= group_of(name) <= count)


def grouped_alexnet(
    batch: int, active: int = GROUPS, *, groups: int = GROUPS, image: int = 32, classes: int = 10
) -> ForwardModel:
    """The first ``active`` of ``groups`` groups of an AlexNet for small images.

    Parameters
    ----------
    batch
        Samples per step.
    active
        Groups that run, 1 to ``groups``.
    groups
        Groups that the channels are divided into; it must divide every width.
    image
        Rows and columns of the images, a multiple of 8.
    classes
        Width of the logits.

    Raises
    ------
    ModelError
        ``active`` is none of 1 to ``groups``, ``groups`` does not divide a width, or the image does
        not fit.

    Examples
    --------
    >>> one, four = (grouped_alexnet(1, active) for active in (1, 4))
    >>> four.params == 4 * one.params, four.macs == 4 * one.macs
    (True, True)
    """
    check_batch(batch)
    for name, value in (("groups", groups), ("active", active)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{name} = {value!r}; allowed: an int of 1 or more")
    if active > groups:
        raise ModelError(f"active = {active}; allowed: 1 to groups = {groups}")
    uneven = [width for width in (*WIDTHS, HIDDEN) if width % groups]
    if uneven:
        raise ModelError(
            f"groups = {groups} does not divide {uneven[0]} channels; take a divisor of "
            f"{', '.join(map(str, dict.fromkeys((*WIDTHS, HIDDEN))))}"
        )
    name = f"{NAME}-{100 * active // groups}"
    builder = ModelBuilder(name, (batch, 3, image, image), _SOURCE)
    return builder.build(_wired(active, groups, builder, classes))


def _wired(active: int, groups: int, b: ModelBuilder, classes: int) -> str:
    check_map(b, INPUT, 8)
    parts = [_group(b, f"g{g}", groups, classes) for g in range(1, active + 1)]
    return parts[0] if active == 1 else b.sum(parts, name="logits")


def _group(b: ModelBuilder, at: str, groups: int, classes: int) -> str:
    x = INPUT
    for number, width in enumerate(WIDTHS, 1):
        k = 5 if number == 1 else 3
        x = b.conv(x, width // groups, k, pad=k // 2, bias=True, name=f"{at}/conv{number}")
        x = b.relu(x, name=f"{at}/relu{number}")
        if number in POOLED:
            x = b.max_pool(x, 2, 2, name=f"{at}/pool{number}")
    x = b.linear(b.flatten(x, f"{at}/flatten"), HIDDEN // groups, bias=True, name=f"{at}/fc6")
    x = b.relu(x, name=f"{at}/relu6")
    return b.linear(x, classes, bias=True, name=f"{at}/fc7")


_SOURCE = (
    "arXiv 2105.03600 (groups); torchvision/models/alexnet.py (widths); filters chosen here: 5x5, "
    "then 3x3"
)
_BY_HAND = "worked out by hand from the widths; the paper's layers are not published"
_GROUP_PARAMS, _GROUP_MACS = 407_002, 11_815_424


def _entry(active: int) -> ModelInfo:
    percent = 100 * active // GROUPS
    return ModelInfo(
        f"{NAME}-{percent}",
        f"AlexNet in {GROUPS} groups for 32x32 images, {active} of them active",
        *(3, 32, 10, _SOURCE),
        params=Published(active * _GROUP_PARAMS, 1, _BY_HAND),
        macs=Published(active * _GROUP_MACS, 1, _BY_HAND),
        wiring=partial(_wired, active, GROUPS),
    )


ENTRIES = tuple(_entry(active) for active in range(1, GROUPS + 1))
