"""The parameters that a numeric executor trains, each in the form that its precision keeps.

An FP32 layer has float weights with a velocity; an INT8 layer of NITI's kind has INT8 weights and
nothing else; one of the sandbox has wide integers with a velocity, whose INT8 form is made anew
after each update. Batch norm keeps running statistics besides.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.draws import draw_key
from kernels.conv import Conv2d
from kernels.fp32.init import initial_weight
from kernels.fp32.update import sgd_update
from kernels.int8.rescale import rescale
from kernels.int8.update import (
    DECAY_UNIT,
    MOMENTUM_UNIT,
    RATE_UNIT,
    WideWeight,
    niti_update,
    wide_start,
    wide_update,
    wide_weight,
)
from kernels.linear import Linear
from kernels.operators import Operator, Role, Shape
from kernels.profiles import (
    InitRule,
    NumericProfile,
    TensorRole,
    UpdateRule,
    rule_of,
)
from kernels.quantised import QTensor, quantise_input_v2, quantise_weight
from kernels.rounding import half_away
from sim.draft import Draft
from sim.numeric.values import Accumulator, Floats, Value, as_floats

Arrays = dict[str, NDArray[Any]]


class ParameterError(ValueError):
    """Parameters that do not fit the network, or values that no optimiser takes."""


@dataclass(frozen=True, slots=True)
class Hyper:
    """Momentum and weight decay of SGD, for FP32 layers and wide integer ones."""

    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        for name, most in (("momentum", 1.0), ("weight_decay", 2.0**-8)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < most:
                raise ParameterError(f"{name} is {value!r}; allowed: 0 or more, below {most:g}")


@dataclass(frozen=True, slots=True)
class Rate:
    """What an update is told: the learning rate in units of ``2^-24``, epoch and threads."""

    rate_q24: int
    epoch: int
    threads: int | None


class Trained(ABC):
    """One trained tensor in the form that its precision keeps."""

    @property
    @abstractmethod
    def value(self) -> Value:
        """What kernels read."""

    @abstractmethod
    def update(self, gradient: Value, rate: Rate) -> None:
        """Take one step along a gradient."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """All that a checkpoint needs, by short names; not copies."""

    @abstractmethod
    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`arrays` gave."""

    @abstractmethod
    def floats(self) -> Floats:
        """The weights as float32."""

    @abstractmethod
    def load_floats(self, values: Floats) -> None:
        """Start again from float weights, at rest."""


@dataclass(slots=True, eq=False)
class FloatTrained(Trained):
    """FP32 weights with a velocity."""

    weight: Floats
    velocity: Floats
    hyper: Hyper

    @property
    def value(self) -> Value:
        """The weights."""
        return self.weight

    def update(self, gradient: Value, rate: Rate) -> None:
        """SGD with momentum and decay, as PyTorch's."""
        sgd_update(
            self.weight, as_floats(gradient), self.velocity, rate=rate.rate_q24 / RATE_UNIT,
            momentum=self.hyper.momentum, weight_decay=self.hyper.weight_decay,
            threads=rate.threads,
        )  # fmt: skip

    def arrays(self) -> Arrays:
        """Weights and velocity."""
        return {"weight": self.weight, "velocity": self.velocity}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over weights and velocity."""
        self.weight[...] = arrays["weight"]
        self.velocity[...] = arrays["velocity"]

    def floats(self) -> Floats:
        """A copy of the weights."""
        return self.weight.copy()

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights."""
        self.weight[...] = values
        self.velocity[...] = 0


@dataclass(slots=True, eq=False)
class WideTrained(Trained):
    """Wide integer weights with a velocity: the ``sandbox`` profile."""

    wide: WideWeight
    hyper: Hyper
    saturated: int = 0

    @property
    def value(self) -> Value:
        """The working INT8 weights."""
        return self.wide.working

    def update(self, gradient: Value, rate: Rate) -> None:
        """SGD with momentum and decay in integers."""
        assert isinstance(gradient, QTensor | Accumulator)
        sums = gradient.sums if isinstance(gradient, Accumulator) else gradient.mantissa
        self.saturated += wide_update(
            self.wide, sums, gradient.exponent, rate_q24=rate.rate_q24,
            momentum_q16=round(self.hyper.momentum * MOMENTUM_UNIT),
            decay_q32=round(self.hyper.weight_decay * DECAY_UNIT),
            threads=rate.threads,
        )  # fmt: skip

    def arrays(self) -> Arrays:
        """Master, velocity and exponent."""
        exponent = np.array(self.wide.exponent, np.int64)
        saturated = np.array(self.saturated, np.int64)
        return {
            "master": self.wide.master,
            "velocity": self.wide.velocity,
            "exponent": exponent,
            "saturated": saturated,
        }

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over master and velocity; the INT8 weights follow."""
        master, velocity = (np.array(arrays[name], np.int32) for name in ("master", "velocity"))
        self.wide = wide_weight(master, velocity, int(arrays["exponent"]))
        self.saturated = int(arrays["saturated"])

    def floats(self) -> Floats:
        """The master as float32."""
        return self.wide.dequantise().astype(np.float32)

    def load_floats(self, values: Floats) -> None:
        """Start again from these weights; a master of other size gets an exponent of its own."""
        self.wide = wide_start(values)


@dataclass(slots=True, eq=False)
class NitiTrained(Trained):
    """INT8 weights whose exponent stays: NITI and Mandheling."""

    tensor: QTensor
    profile: NumericProfile

    @property
    def value(self) -> Value:
        """The weights."""
        return self.tensor

    def update(self, gradient: Value, rate: Rate) -> None:
        """Subtract the gradient's mantissa: its bits are the learning rate."""
        if isinstance(gradient, Accumulator):  # of a bias: nothing rescaled it before
            rule = rule_of(self.profile, TensorRole.GRADIENT, "linear", rate.epoch)
            gradient = rescale(gradient.sums, 0, rule).tensor
        assert isinstance(gradient, QTensor)
        wrap = self.profile.update is UpdateRule.INT8_WRAP
        niti_update(self.tensor.int8, gradient.int8, wrap=wrap)

    def arrays(self) -> Arrays:
        """Mantissa and exponent."""
        exponent = np.array(self.tensor.exponent, np.int64)
        return {"mantissa": self.tensor.mantissa, "exponent": exponent}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over mantissa and exponent."""
        self.tensor = QTensor(np.array(arrays["mantissa"], np.int8), int(arrays["exponent"]))

    def floats(self) -> Floats:
        """The weights as float32."""
        return self.tensor.dequantise().astype(np.float32)

    def load_floats(self, values: Floats) -> None:
        """Quantise these weights, keeping their scale."""
        self.tensor = quantise_input_v2(values)


@dataclass(slots=True, eq=False)
class Parameters:
    """Trained tensors by name, and batch norm's running statistics by layer."""

    trained: dict[str, Trained]
    statistics: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)

    @classmethod
    def start(cls, draft: Draft, profile: NumericProfile, hyper: Hyper, seed: int) -> Parameters:
        """Initial parameters of the layers of a draft, drawn by seed and name.

        A layer in INT8 follows the profile's rule of initial weights, one in FP32 He's; both draw
        the same numbers.
        """
        made = cls({})
        for item in draft.items:
            if item.role is not Role.FORWARD or not item.op.weights:
                continue
            names = [n for n in item.reads if draft.buffers[n].resident]
            for name, shape in zip(names, item.op.weights, strict=True):
                rule = profile.init if item.dtype == "int8" else InitRule.HE_NORMAL
                values = _initial(item.op, name, shape, rule, seed)
                made.trained[name] = _trained(values, item.dtype, profile, hyper)
            if item.op.kind == "batch_norm":
                channels = item.op.inputs[0][1]
                zeros, ones = (np.full(channels, v, np.float32) for v in (0, 1))
                made.statistics[item.layer] = zeros, ones
        return made

    def value(self, name: str) -> Value:
        """What kernels read of a trained tensor.

        Raises
        ------
        ParameterError
            There is no such tensor.
        """
        if name not in self.trained:
            raise ParameterError(f"{name} holds no value and is no parameter of this network")
        return self.trained[name].value

    def bias_sums(self, name: str, exponent: int, products: int) -> NDArray[np.int32]:
        """A bias in units of an accumulator: ``round(bias / 2^exponent)``.

        It saturates where a sum of ``products`` products beside it could leave int32.
        """
        trained = self.trained[name]
        if isinstance(trained, WideTrained):
            source, unit = trained.wide.master, trained.wide.exponent
        else:
            value = trained.value
            assert isinstance(value, QTensor)
            source, unit = value.mantissa.astype(np.int32), value.exponent
        left = unit - exponent
        if left < 0:
            sums = half_away(source, min(-left, 62))
        else:
            sums = source.astype(np.int64) << min(left, 31)
        most = 2**31 - 1 - (products << 14)
        return np.clip(sums, -most, most).astype(np.int32)

    def arrays(self) -> Arrays:
        """Everything a checkpoint holds, by unique names; not copies."""
        found = {
            f"{name}:{part}": array
            for name, trained in self.trained.items()
            for part, array in trained.arrays().items()
        }
        for layer, (mean, variance) in self.statistics.items():
            found[f"{layer}:mean"], found[f"{layer}:variance"] = mean, variance
        return found

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`arrays` gave for the same network, plan and profile.

        Raises
        ------
        ParameterError
            A name is missing or unknown, or an array has another shape or dtype.
        """
        have = self.arrays()
        for name in sorted(have.keys() ^ arrays.keys()):
            state = "is missing" if name in have else "is unknown"
            raise ParameterError(
                f"parameter {name!r} {state}: these belong to another network, plan or profile"
            )
        for name, array in have.items():
            given = arrays[name]
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ParameterError(
                    f"parameter {name!r} is {given.dtype} {given.shape}; "
                    f"allowed: {array.dtype} {array.shape}"
                )
        for name, trained in self.trained.items():
            trained.load({part: arrays[f"{name}:{part}"] for part in trained.arrays()})
        for layer, (mean, variance) in self.statistics.items():
            mean[...], variance[...] = arrays[f"{layer}:mean"], arrays[f"{layer}:variance"]

    def floats(self) -> dict[str, Floats]:
        """The trained tensors as float32, copies."""
        return {name: trained.floats() for name, trained in self.trained.items()}

    def load_floats(self, values: Mapping[str, Floats]) -> None:
        """Start again from float weights, at rest; running statistics stay.

        Raises
        ------
        ParameterError
            A name is missing or unknown, or a shape differs.
        """
        if values.keys() != self.trained.keys():
            raise ParameterError(
                f"values have {len(values)} names; allowed: those of floats(), "
                f"like {next(iter(self.trained))!r}"
            )
        for name, trained in self.trained.items():
            trained.load_floats(np.ascontiguousarray(values[name], np.float32))

    def sha256(self) -> str:
        """Digest of all arrays, bit for bit, with their names, dtypes and shapes."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _initial(op: Operator, name: str, shape: Shape, rule: InitRule, seed: int) -> Floats:
    """Main weights by the rule; batch norm's gamma 1; biases 0."""
    if name.endswith(".bias") or op.kind == "batch_norm":
        one = op.kind == "batch_norm" and name.endswith(".weight")
        return np.full(shape, 1 if one else 0, np.float32)
    assert isinstance(op, Conv2d | Linear)
    return initial_weight(op, rule.value, np.random.default_rng([seed, draw_key(name, "init")]))


def _trained(values: Floats, dtype: str, profile: NumericProfile, hyper: Hyper) -> Trained:
    if dtype == "fp32":
        return FloatTrained(values, np.zeros_like(values), hyper)
    if profile.update is UpdateRule.WIDE:
        return WideTrained(wide_start(values), hyper)
    return NitiTrained(quantise_weight(values), profile)
