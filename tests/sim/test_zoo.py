"""Every zoo model against what was published about it, and against formulas worked out here.

Sources of the published numbers (each also stands in the entry's ``params`` and ``macs``):

- torchvision: ``num_params`` and ``_ops`` of the weights in torchvision/models/*.py, printed in
  pytorch.org/vision/stable/models. ``_ops`` has three decimals of GFLOPS and counts a MAC of
  a convolution or linear layer as one. Compared within 0.5 % or the last printed digit,
  whichever is larger.
- CIFAR VGG and ResNet: NeuralFuse (arXiv 2306.16869) table 7; the README of a fork of
  kuangliu/pytorch-cifar, counted by thop; da2so/DA2Lite model_zoo/README.md.
- LeNet: Caffe's, as torchsummary counts it, and the 4586K operations that pruning papers give
  (second-hand). MobileNet v1: tensorflow/models research/slim/nets/mobilenet_v1.md and the
  Keras summary of trainable parameters.
- ResNet8 and DS-CNN: MLPerf Tiny's parameters less those of batch norm, and its operations.
- VGG-small: no table is published. The entries state the product of NITI's widths, which
  ``test_niti_networks_by_hand`` multiplies out: a check of the wiring, not of a publication.
"""

from __future__ import annotations

import pytest

from kernels.operators import OperatorError
from sim.model import ModelError
from sim.zoo import Published, load_model, model_info, model_names

EXACT = {
    # name: (parameters, MACs of one sample), exact integers of this sandbox
    "alexnet": (61_100_840, 714_188_480),
    "ds-cnn": (22_604, 2_656_768),
    "dynamic-alexnet-100": (1_628_008, 47_261_696),
    "dynamic-alexnet-25": (407_002, 11_815_424),
    "dynamic-alexnet-50": (814_004, 23_630_848),
    "dynamic-alexnet-75": (1_221_006, 35_446_272),
    "googlenet": (6_624_904, 1_498_376_192),
    "inception-v3": (23_834_568, 5_713_216_096),
    "lenet": (430_500, 2_293_000),
    "mobilenet-v1": (4_231_976, 568_740_352),
    "mobilenet-v2": (3_504_872, 300_774_272),
    "resnet18": (11_173_962, 555_422_720),
    "resnet18-imagenet": (11_689_512, 1_814_073_344),
    "resnet34": (21_282_122, 1_159_402_496),
    "resnet34-imagenet": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet8": (77_706, 12_501_632),
    "squeezenet1.0": (1_248_424, 818_924_576),
    "squeezenet1.1": (1_235_496, 349_151_936),
    "vgg-small-7": (4_656_512, 607_600_640),
    "vgg-small-8": (4_803_968, 758_595_584),
    "vgg-small-9": (5_393_792, 909_590_528),
    "vgg11": (9_222_848, 152_769_536),
    "vgg13": (9_407_168, 228_267_008),
    "vgg16": (14_715_584, 313_201_664),
    "vgg16-imagenet": (138_357_544, 15_470_264_320),
    "vgg19": (20_024_000, 398_136_320),
    "wideresnet50": (68_883_240, 11_398_021_120),
}

TORCHVISION = {
    # name: (num_params, GFLOPS as printed)
    "alexnet": (61_100_840, "0.714"),
    "googlenet": (6_624_904, "1.498"),
    "mobilenet-v2": (3_504_872, "0.301"),
    "resnet18-imagenet": (11_689_512, "1.814"),
    "resnet34-imagenet": (21_797_672, "3.664"),
    "resnet50": (25_557_032, "4.089"),
    "squeezenet1.0": (1_248_424, "0.819"),
    "squeezenet1.1": (1_235_496, "0.349"),
    "vgg16-imagenet": (138_357_544, "15.47"),
    "wideresnet50": (68_883_240, "11.398"),
}


def test_every_model_is_covered() -> None:
    assert set(EXACT) == set(model_names())


@pytest.mark.parametrize("name", model_names())
def test_counts_equal_the_published_ones(name: str) -> None:
    model, info = load_model(name, batch=1), model_info(name)
    assert (model.params, model.macs) == EXACT[name]
    assert info.params.agrees(model.params)
    assert info.macs.agrees(model.macs)
    assert info.params.source
    assert info.macs.source
    assert abs(model.params - info.params.value) <= 0.005 * info.params.value
    assert abs(model.macs - info.macs.value) <= 0.005 * info.macs.value


@pytest.mark.parametrize(("name", "published"), TORCHVISION.items())
def test_torchvision_to_the_last_printed_digit(name: str, published: tuple[int, str]) -> None:
    model = load_model(name, batch=1)
    params, gflops = published
    assert model.params == params
    assert f"{model.macs / 1e9:.{len(gflops.split('.')[1])}f}" == gflops


def test_inception_is_torchvisions_without_its_auxiliary_head() -> None:
    """27,161,264 with the head (InceptionAux in torchvision/models/inception.py)."""
    conv0, conv1 = 768 * 128 + 2 * 128, 128 * 768 * 5 * 5 + 2 * 768
    head = conv0 + conv1 + 768 * 1000 + 1000
    model = load_model("inception-v3", batch=1)
    assert model.params + head == 27_161_264
    assert f"{model.macs / 1e9:.3f}" == "5.713"


@pytest.mark.parametrize(
    ("name", "with_norm_and_bias"),
    [
        ("vgg11", 9_231_114),  # NeuralFuse, table 7
        ("vgg13", 9_416_010),  # README of a fork of kuangliu/pytorch-cifar
        ("vgg16", 14_728_266),  # NeuralFuse, table 7
        ("vgg19", 20_040_522),  # NeuralFuse, table 7
    ],
)
def test_cifar_vgg_differs_by_norm_and_bias_only(name: str, with_norm_and_bias: int) -> None:
    """Published with bias, gamma and beta for each channel and 10 biases at the end."""
    model = load_model(name, batch=1)
    channels = sum(layer.op.output[1] for layer in model.layers if layer.op.kind == "conv2d")
    assert model.params + 3 * channels + 10 == with_norm_and_bias


def test_vgg16_cifar_convolutions_are_keras_vgg16s() -> None:
    """Keras Applications VGG16, include_top=False: 14,714,688 with 4,224 biases."""
    model = load_model("vgg16", batch=1)
    convs = sum(layer.op.params for layer in model.layers if layer.op.kind == "conv2d")
    assert convs == 14_714_688 - 4_224


def test_lenet_is_caffes_without_biases() -> None:
    """Caffe's LeNet has 431,080 parameters, 580 of them biases (20 + 50 + 500 + 10)."""
    model = load_model("lenet", batch=1)
    assert model.params == 431_080 - 580
    assert 2 * model.macs == 4_586_000  # the baseline of pruning papers


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("vgg11", "64 M 128 M 256 256 M 512 512 M 512 512 M"),
        ("vgg13", "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M"),
        ("vgg16", "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"),
        ("vgg19", "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"),
        ("vgg-small-7", "128 128 M 256 256 M 512 512 M"),
        ("vgg-small-8", "128 128 128 M 256 256 M 512 512 M"),
        ("vgg-small-9", "128 128 128 M 256 256 256 M 512 512 M"),
    ],
)
def test_niti_networks_by_hand(name: str, widths: str) -> None:
    """The width lists of wangmaolin/niti vgg.py and ti_vgg.py, multiplied out."""
    size, channels, params, macs = 32, 3, 0, 0
    for item in widths.split():
        if item == "M":
            size //= 2
            continue
        weights = 9 * channels * int(item)
        params, macs, channels = params + weights, macs + weights * size * size, int(item)
    classifier = 10 * channels * size * size
    model = load_model(name, batch=1)
    assert (model.params, model.macs) == (params + classifier, macs + classifier)


@pytest.mark.parametrize("name", model_names())
def test_batch_scales_nothing_but_the_batch(name: str) -> None:
    one, many = load_model(name, batch=1), load_model(name, batch=6)
    assert (one.macs, one.params) == (many.macs, many.params)
    assert one.with_batch(6) == many
    assert many.batch == 6


def test_image_and_classes() -> None:
    small = load_model("resnet50", batch=2, image=64, classes=7)
    assert small.layers[-1].op.output == (2, 7)
    assert small.params == 25_557_032 - 993 * 2049
    assert load_model("lenet", batch=1, image=32).layers[0].op.output == (1, 20, 28, 28)
    wide = load_model("vgg16-imagenet", batch=1, image=448)
    assert wide.params == 138_357_544
    with pytest.raises(ModelError, match="multiple of 7"):
        load_model("vgg16-imagenet", batch=1, image=256)
    with pytest.raises(OperatorError, match="larger than the padded input"):
        load_model("inception-v3", batch=1, image=32)


@pytest.mark.parametrize("batch", [0, -1, True, 1.5, "4"])
def test_bad_batches(batch: object) -> None:
    with pytest.raises(ModelError, match="batch = "):
        load_model("lenet", batch=batch)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="batch = "):
        load_model("lenet", batch=1).with_batch(batch)  # type: ignore[arg-type]


def test_bad_names_and_sizes() -> None:
    with pytest.raises(ModelError, match=r"allowed: alexnet, .*did you mean 'resnet18'\?"):
        load_model("ResNet-18", batch=1)
    with pytest.raises(ModelError) as caught:
        load_model("zzzz", batch=1)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(ModelError, match="image = 0"):
        load_model("lenet", batch=1, image=0)
    with pytest.raises(ModelError, match="classes = -2"):
        load_model("lenet", batch=1, classes=-2)


def test_agreement_is_refused_beyond_tolerance_and_digit() -> None:
    published = Published(1_000, 1, "this test")
    assert published.agrees(1_005)
    assert not published.agrees(1_006)
    assert Published(1_000, 10, "this test").agrees(1_010)
