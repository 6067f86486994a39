"""Networks to calibrate on that no paper has: drawn by seed, to spread sizes that the zoo lacks.

The zoo's networks for colour images have few large linear layers and no convolution with one input
channel, so laws fitted on them alone have to guess there.
"""

from __future__ import annotations

from random import Random

from sim.model import INPUT, ForwardModel, ModelBuilder

DRAWN = "drawn-net-"
"""Begins the name of a drawn network; its seed follows."""
_CHANNELS = (1, 1, 2, 3)
_WIDTHS = (6, 8, 12, 16, 24, 32, 48, 64, 96)
_HIDDEN = (32, 64, 96, 128, 256, 384, 768, 1024)


def drawn_network(seed: int, batch: int, image: int) -> ForwardModel:
    """Return a network of two or three convolutions with pooling, and one or two linear layers."""
    random = Random(seed)
    b = ModelBuilder(
        f"{DRAWN}{seed}", (batch, random.choice(_CHANNELS), image, image), "drawn by seed"
    )
    x = INPUT
    for _ in range(random.choice((2, 3))):
        k = random.choice((1, 3, 3, 5, 7))
        x = b.conv(x, random.choice(_WIDTHS), k, pad=k // 2, bias=random.random() < 0.5)
        if random.random() < 0.3:
            x = b.batch_norm(x)
        x = b.max_pool(b.relu(x), 2, 2)
    x = b.flatten(x)
    for _ in range(random.choice((1, 2))):
        x = b.relu(b.linear(x, random.choice(_HIDDEN), bias=random.random() < 0.5))
    return b.build(b.linear(x, random.choice((5, 10, 20))))
