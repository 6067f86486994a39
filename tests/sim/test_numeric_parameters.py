"""Trained tensors: initial values, what a checkpoint holds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.device import load_device
from kernels.profiles import PROFILES
from kernels.quantised import QTensor
from sim.autodiff import training_graph
from sim.lowering import draft_before
from sim.model import INPUT, ModelBuilder
from sim.numeric import Hyper, ParameterError, Parameters
from sim.numeric.starting import start_trained
from sim.numeric.trained import UpdateContext
from sim.numeric.values import Accumulator
from sim.policies.build import build_plan

PHONE = load_device("snapdragon-865")


def network() -> ModelBuilder:
    b = ModelBuilder("one-of-each", (2, 3, 6, 6), source="this test")
    b.build(b.linear(b.flatten(b.batch_norm(b.conv(INPUT, 4, 3, bias=True))), 5, bias=True))
    return b


GRAPH = training_graph(network().build("linear1"))


def started(plan: str = "mandheling", profile: str = "sandbox", seed: int = 0) -> Parameters:
    draft = draft_before("batch_split", GRAPH, build_plan(plan, GRAPH, PHONE), PHONE)
    return Parameters.start(draft, PROFILES[profile], Hyper(), seed)


def test_initial_values_follow_seed_name_and_rule() -> None:
    first, again, other = started(), started(), started(seed=1)
    assert first.sha256() == again.sha256() != other.sha256()
    assert set(first.trained) == {
        "conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "linear1.weight", "linear1.bias",
    }  # fmt: skip
    floats = first.floats()
    assert floats["conv1.weight"].shape == (4, 3, 3, 3)
    assert np.array_equal(floats["bn1.weight"], np.ones(4, np.float32))
    for name in ("conv1.bias", "bn1.bias", "linear1.bias"):
        assert not floats[name].any()
    mean, variance = first.statistics["bn1"]
    assert not mean.any()
    assert np.array_equal(variance, np.ones(4, np.float32))


def test_int8_and_fp32_start_from_the_same_draws() -> None:
    wide, exact = started().floats(), started("mnn-fp32").floats()
    for name, values in exact.items():
        step = max(float(np.abs(values).max()), 1.0) * 2.0**-25
        assert np.abs(wide[name] - values).max() <= step


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("plan", ["mandheling", "mnn-fp32"])
def test_arrays_carry_everything(plan: str, profile: str) -> None:
    source, target = started(plan, profile, seed=1), started(plan, profile, seed=2)
    for trained in source.trained.values():
        value = trained.value
        shape = value.shape if isinstance(value, QTensor) else np.shape(value)
        gradient = np.full(shape, 3, np.int8)
        step = QTensor(gradient, -9) if isinstance(value, QTensor) else gradient.astype(np.float32)
        trained.update(step, UpdateContext(1 << 20, 0, None))
    source.statistics["bn1"][0][:] = 0.5
    assert source.sha256() != target.sha256()
    target.load({name: array.copy() for name, array in source.arrays().items()})
    assert target.sha256() == source.sha256()
    for name, trained in source.trained.items():
        mine, theirs = trained.value, target.trained[name].value
        if isinstance(mine, QTensor):
            assert isinstance(theirs, QTensor)
            assert mine.exponent == theirs.exponent
            assert np.array_equal(mine.mantissa, theirs.mantissa)


def test_arrays_of_another_network_are_refused_by_name() -> None:
    parameters = started()
    arrays = parameters.arrays()
    less = {name: array for name, array in arrays.items() if name != "bn1:mean"}
    with pytest.raises(ParameterError, match=r"parameter 'bn1:mean' is missing: these belong"):
        parameters.load(less)
    with pytest.raises(ParameterError, match=r"parameter 'spare' is unknown"):
        parameters.load({**arrays, "spare": np.zeros(1)})
    wrong = {**arrays, "conv1.weight:master": np.zeros((4, 3, 3, 2), np.int32)}
    with pytest.raises(
        ParameterError, match=r"int32 \(4, 3, 3, 2\); allowed: int32 \(4, 3, 3, 3\)"
    ):
        parameters.load(wrong)
    with pytest.raises(ParameterError, match=r"conv9.weight holds no value"):
        parameters.value("conv9.weight")
    with pytest.raises(ParameterError, match=r"values have 0 names; allowed: those of floats\(\)"):
        parameters.load_floats({})


@pytest.mark.parametrize("profile", PROFILES)
def test_floats_go_out_and_come_back(profile: str) -> None:
    source, target = started(profile=profile, seed=1), started(profile=profile, seed=2)
    target.load_floats(source.floats())
    for name, values in source.floats().items():
        largest = max(float(np.abs(values).max()), 1e-9)
        assert np.abs(target.floats()[name] - values).max() <= largest / 64


def test_a_bias_is_aligned_to_its_accumulator() -> None:
    parameters = started(profile="niti_v1")
    bias = parameters.trained["linear1.bias"]
    bias.load({"mantissa": np.array([64, -3, 1, 0, -127], np.int8), "exponent": np.array(-6)})
    assert parameters.bias_sums("linear1.bias", -8, 10).tolist() == [256, -12, 4, 0, -508]
    assert parameters.bias_sums("linear1.bias", -5, 10).tolist() == [32, -2, 1, 0, -64]
    most = 2**31 - 1 - (10 << 14)
    assert parameters.bias_sums("linear1.bias", -40, 10).tolist() == [most, -most, most, 0, -most]


def test_niti_takes_the_gradient_of_a_bias_by_its_bits() -> None:
    parameters = started(profile="mandheling_cpu")
    bias = parameters.trained["linear1.bias"]
    bias.update(Accumulator(np.array([900, -900, 10, 0, 0]), 5, 900), UpdateContext(0, 0, None))
    value = bias.value
    assert isinstance(value, QTensor)
    assert value.mantissa.tolist() == [-7, 7, 0, 0, 0]  # 3 bits: 900 is 7 of 8 steps of 128


@pytest.mark.parametrize(
    ("field", "value"), [("momentum", 1.0), ("momentum", -0.1), ("weight_decay", 0.5)]
)
def test_impossible_hyper_parameters_are_refused(field: str, value: float) -> None:
    with pytest.raises(ParameterError, match=rf"{field} is {value}; allowed: 0 or more, below"):
        Hyper(**{field: value})


@pytest.mark.parametrize(
    ("dtype", "bits", "allowed"),
    [("fp32", 4, "0 or 8 or 32"), ("fp16", 8, "0 or 16"), ("int8", 8, "0")],
)
def test_a_state_of_other_bits_is_refused(dtype: str, bits: int, allowed: str) -> None:
    values = np.zeros((2, 3), np.float32)
    with pytest.raises(ParameterError, match=rf"state_bits is {bits}; .* '{dtype}': {allowed}$"):
        start_trained(values, dtype, "linear", PROFILES["sandbox"], Hyper(), bits)
