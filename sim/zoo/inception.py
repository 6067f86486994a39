"""Networks of parallel branches that are joined: GoogLeNet, Inception v3, SqueezeNet."""

from __future__ import annotations

from functools import partial

from kernels.windows import Pair
from sim.model import INPUT, ModelBuilder
from sim.zoo.registry import TORCHVISION, ModelInfo, Published, torchvision


def _conv(
    b: ModelBuilder,
    x: str,
    width: int,
    k: int | Pair,
    name: str,
    *,
    stride: int = 1,
    pad: int | Pair = 0,
) -> str:
    """Convolution, batch norm, ReLU: torchvision's ``BasicConv2d``."""
    x = b.conv(x, width, k, stride=stride, pad=pad, name=name)
    return b.relu(b.batch_norm(x, name=f"{name}/bn"), name=f"{name}/relu")


def _head(b: ModelBuilder, x: str, classes: int) -> str:
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    return b.linear(b.dropout(x, name="dropout"), classes, bias=True, name="fc")


GOOGLENET = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Widths: 1x1; 3x3 reduce and 3x3; 5x5 reduce and 5x5; pooling projection."""


def _googlenet(b: ModelBuilder, classes: int) -> str:
    x = _conv(b, INPUT, 64, 7, "conv1", stride=2, pad=3)
    x = b.max_pool(x, 3, 2, ceil_mode=True, name="maxpool1")
    x = _conv(b, _conv(b, x, 64, 1, "conv2"), 192, 3, "conv3", pad=1)
    x = b.max_pool(x, 3, 2, ceil_mode=True, name="maxpool2")
    for name, (w1, r3, w3, r5, w5, proj) in GOOGLENET.items():
        at = f"inception{name}"
        one = _conv(b, x, w1, 1, f"{at}/b1")
        three = _conv(b, _conv(b, x, r3, 1, f"{at}/b2a"), w3, 3, f"{at}/b2b", pad=1)
        # The "5x5" branch has 3x3 kernels in torchvision, whose counts are the reference here.
        five = _conv(b, _conv(b, x, r5, 1, f"{at}/b3a"), w5, 3, f"{at}/b3b", pad=1)
        pool = b.max_pool(x, 3, 1, pad=1, ceil_mode=True, name=f"{at}/pool")
        x = b.concat([one, three, five, _conv(b, pool, proj, 1, f"{at}/b4")], name=at)
        if name == "3b":
            x = b.max_pool(x, 3, 2, ceil_mode=True, name="maxpool3")
        if name == "4e":
            x = b.max_pool(x, 2, 2, ceil_mode=True, name="maxpool4")
    return _head(b, x, classes)


def _chain(b: ModelBuilder, x: str, at: str, *steps: tuple[int, Pair]) -> str:
    """Convolutions one after the other, of stride 1 and padded to keep the map's size."""
    for i, (width, (k_h, k_w)) in enumerate(steps):
        x = _conv(b, x, width, (k_h, k_w), f"{at}_{i}", pad=(k_h // 2, k_w // 2))
    return x


_K1, _K3, _K5 = (1, 1), (3, 3), (5, 5)


def _pooled(b: ModelBuilder, x: str, width: int, at: str) -> str:
    return _conv(b, b.avg_pool(x, 3, 1, pad=1, name=f"{at}/pool"), width, 1, f"{at}/proj")


def _mixed_a(b: ModelBuilder, x: str, pool_width: int, at: str) -> str:
    return b.concat(
        [
            _chain(b, x, f"{at}/b1", (64, _K1)),
            _chain(b, x, f"{at}/b5", (48, _K1), (64, _K5)),
            _chain(b, x, f"{at}/b3", (64, _K1), (96, _K3), (96, _K3)),
            _pooled(b, x, pool_width, at),
        ],
        name=at,
    )


def _mixed_b(b: ModelBuilder, x: str, at: str) -> str:
    three = _conv(b, x, 384, 3, f"{at}/b3", stride=2)
    double = _chain(b, x, f"{at}/dbl", (64, _K1), (96, _K3))
    double = _conv(b, double, 96, 3, f"{at}/dbl_2", stride=2)
    return b.concat([three, double, b.max_pool(x, 3, 2, name=f"{at}/pool")], name=at)


def _mixed_c(b: ModelBuilder, x: str, c7: int, at: str) -> str:
    across, down = (1, 7), (7, 1)
    double = ((c7, _K1), (c7, down), (c7, across), (c7, down), (192, across))
    return b.concat(
        [
            _chain(b, x, f"{at}/b1", (192, _K1)),
            _chain(b, x, f"{at}/b7", (c7, _K1), (c7, across), (192, down)),
            _chain(b, x, f"{at}/dbl", *double),
            _pooled(b, x, 192, at),
        ],
        name=at,
    )


def _mixed_d(b: ModelBuilder, x: str, at: str) -> str:
    three = _chain(b, x, f"{at}/b3", (192, _K1))
    three = _conv(b, three, 320, 3, f"{at}/b3_1", stride=2)
    seven = _chain(b, x, f"{at}/b7", (192, _K1), (192, (1, 7)), (192, (7, 1)))
    seven = _conv(b, seven, 192, 3, f"{at}/b7_3", stride=2)
    return b.concat([three, seven, b.max_pool(x, 3, 2, name=f"{at}/pool")], name=at)


def _fan(b: ModelBuilder, x: str, at: str) -> str:
    """A 1x3 and a 3x1 convolution side by side."""
    across = _chain(b, x, f"{at}/across", (384, (1, 3)))
    down = _chain(b, x, f"{at}/down", (384, (3, 1)))
    return b.concat([across, down], name=at)


def _mixed_e(b: ModelBuilder, x: str, at: str) -> str:
    return b.concat(
        [
            _chain(b, x, f"{at}/b1", (320, _K1)),
            _fan(b, _chain(b, x, f"{at}/b3", (384, _K1)), f"{at}/fan3"),
            _fan(b, _chain(b, x, f"{at}/dbl", (448, _K1), (384, _K3)), f"{at}/fandbl"),
            _pooled(b, x, 192, at),
        ],
        name=at,
    )


def _inception_v3(b: ModelBuilder, classes: int) -> str:
    x = _conv(b, INPUT, 32, 3, "conv1a", stride=2)
    x = _conv(b, _conv(b, x, 32, 3, "conv2a"), 64, 3, "conv2b", pad=1)
    x = _conv(b, b.max_pool(x, 3, 2, name="maxpool1"), 80, 1, "conv3b")
    x = b.max_pool(_conv(b, x, 192, 3, "conv4a"), 3, 2, name="maxpool2")
    for part, pool_width in (("5b", 32), ("5c", 64), ("5d", 64)):
        x = _mixed_a(b, x, pool_width, f"mixed{part}")
    x = _mixed_b(b, x, "mixed6a")
    for part, c7 in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        x = _mixed_c(b, x, c7, f"mixed{part}")
    x = _mixed_d(b, x, "mixed7a")
    for part in ("7b", "7c"):
        x = _mixed_e(b, x, f"mixed{part}")
    return _head(b, x, classes)


_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Squeeze width and expand width (each of 1x1 and 3x3) of fire modules 2 to 9."""


def _fire(b: ModelBuilder, x: str, squeeze: int, expand: int, at: str) -> str:
    def conv_relu(source: str, width: int, k: int, part: str) -> str:
        conv = b.conv(source, width, k, pad=k // 2, bias=True, name=f"{at}/{part}")
        return b.relu(conv, name=f"{at}/{part}/relu")

    x = conv_relu(x, squeeze, 1, "squeeze")
    return b.concat([conv_relu(x, expand, 1, "e1"), conv_relu(x, expand, 3, "e3")], name=at)


def _squeezenet(
    stem: tuple[int, int], pools: tuple[int, ...], b: ModelBuilder, classes: int
) -> str:
    """``stem``: width and kernel of the first layer; ``pools``: fires that a pooling follows."""
    width, k = stem
    x = b.relu(b.conv(INPUT, width, k, stride=2, bias=True, name="conv1"), name="relu1")
    x = b.max_pool(x, 3, 2, ceil_mode=True, name="pool1")
    for index, (squeeze, expand) in enumerate(_FIRES, 2):
        x = _fire(b, x, squeeze, expand, f"fire{index}")
        if index in pools:
            x = b.max_pool(x, 3, 2, ceil_mode=True, name=f"pool{index}")
    x = b.conv(b.dropout(x, name="dropout"), classes, 1, bias=True, name="conv10")
    x = b.global_avg_pool(b.relu(x, name="relu10"), name="avgpool")
    return b.flatten(x, name="flatten")


def _squeezenet_entry(
    version: str, stem: tuple[int, int], pools: tuple[int, ...], params: int, macs: int
) -> ModelInfo:
    function = f"squeezenet{version.replace('.', '_')}"
    return ModelInfo(
        f"squeezenet{version}",
        f"SqueezeNet {version} for ImageNet",
        *(3, 224, 1000, f"torchvision/models/squeezenet.py ({function})"),
        *torchvision(params, macs),
        wiring=partial(_squeezenet, stem, pools),
    )


ENTRIES = (
    ModelInfo(
        "googlenet",
        "GoogLeNet with batch norm for ImageNet, without auxiliary heads",
        *(3, 224, 1000, "torchvision/models/googlenet.py (googlenet, aux_logits=False)"),
        *torchvision(6_624_904, 1_498),
        wiring=_googlenet,
    ),
    ModelInfo(
        "inception-v3",
        "Inception v3 for 299x299 images, without auxiliary head",
        *(3, 299, 1000, "torchvision/models/inception.py (inception_v3, aux_logits=False)"),
        params=Published(
            27_161_264 - 3_326_696,
            1,
            f"{TORCHVISION}, 27,161,264, less the auxiliary head: 1x1 conv 768-128, 5x5 conv "
            f"128-768, both with batch norm, linear 768-1000",
        ),
        macs=torchvision(0, 5_713)[1],
        wiring=_inception_v3,
    ),
    _squeezenet_entry("1.0", (96, 7), (4, 8), 1_248_424, 819),
    _squeezenet_entry("1.1", (64, 3), (3, 5), 1_235_496, 349),
)
