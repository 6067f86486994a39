"""What a numeric executor holds between steps: parameters, running statistics, bases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.draws import draw_key
from kernels.conv import Conv2d
from kernels.fp32.init import initial_weight
from kernels.linear import Linear
from kernels.operators import Operator, Role, Shape
from kernels.profiles import (
    InitRule,
    NumericProfile,
)
from kernels.quantised import QTensor
from kernels.rounding import half_away
from kernels.tucker import SubspaceSave
from sim.aspects.optimiser import state_bits
from sim.draft import Draft
from sim.numeric.bases import Bases
from sim.numeric.starting import start_trained
from sim.numeric.trained import Hyper, ParameterError, Place, Trained, UpdateContext
from sim.numeric.trained_integers import WideTrained
from sim.numeric.values import Accumulator, Floats, Value, as_floats

Arrays = dict[str, NDArray[Any]]


@dataclass(slots=True, eq=False)
class Parameters:
    """Trained tensors by name; batch norm's running statistics and bases of inputs by layer.

    While ``watched`` is a dictionary, updates put into it the gradients that they apply, by the
    names of what they update: float32 copies.
    """

    trained: dict[str, Trained]
    statistics: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    bases: dict[str, Bases] = field(default_factory=dict)
    watched: dict[str, Floats] | None = None

    @classmethod
    def start(cls, draft: Draft, profile: NumericProfile, hyper: Hyper, seed: int) -> Parameters:
        """Initial parameters of the layers of a draft, drawn by seed and name.

        A layer in INT8 follows the profile's rule of initial weights, one in FP32 He's; both draw
        the same numbers.
        """
        made, bits = cls({}), state_bits(draft.items)
        for item in draft.items:
            if isinstance(item.op, SubspaceSave):
                made.bases[item.layer] = Bases.start(item.op.bases, item.layer, seed)
            if item.role is not Role.FORWARD or not item.op.weights:
                continue
            names = [n for n in item.reads if draft.buffers[n].resident]
            for name, shape in zip(names, item.op.weights, strict=True):
                rule = profile.init if item.dtype == "int8" else InitRule.HE_NORMAL
                values = _initial(item.op, name, shape, rule, seed)
                made.trained[name] = start_trained(
                    values, item.dtype, item.op.kind, profile, hyper, bits.get(item.layer, 0)
                )
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

    def update(self, name: str, gradient: Value, at: UpdateContext) -> None:
        """Take one step of a trained tensor along a gradient."""
        if self.watched is not None:
            self.watched[name] = _float_copy(gradient)
        self.trained[name].update(gradient, at)

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
        for layer, bases in self.bases.items():
            found[f"{layer}:bases"] = bases.values
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
        for layer, bases in self.bases.items():
            bases.values[...] = arrays[f"{layer}:bases"]

    def move(self, place: Place) -> None:
        """Keep every array in the memory that ``place`` puts it into."""
        for trained in self.trained.values():
            trained.move(place)
        for layer, (mean, variance) in self.statistics.items():
            self.statistics[layer] = place(mean), place(variance)
        for bases in self.bases.values():
            bases.values = place(bases.values)

    def floats(self) -> dict[str, Floats]:
        """The trained tensors as float32, copies."""
        return {name: trained.floats() for name, trained in self.trained.items()}

    def load_floats(self, values: Mapping[str, Floats]) -> None:
        """Start again from float weights, at rest, with bases as drawn; running statistics stay.

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
        for bases in self.bases.values():
            bases.restart()

    def sha256(self) -> str:
        """Digest of all arrays, bit for bit, with their names, dtypes and shapes."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _float_copy(gradient: Value) -> Floats:
    if isinstance(gradient, Accumulator):
        return np.ldexp(gradient.sums.astype(np.float64), gradient.exponent).astype(np.float32)
    if isinstance(gradient, QTensor):
        return gradient.dequantise().astype(np.float32)
    return as_floats(gradient).copy()


def _initial(op: Operator, name: str, shape: Shape, rule: InitRule, seed: int) -> Floats:
    """Main weights by the rule; batch norm's gamma 1; biases 0."""
    if name.endswith(".bias") or op.kind == "batch_norm":
        one = op.kind == "batch_norm" and name.endswith(".weight")
        return np.full(shape, 1 if one else 0, np.float32)
    assert isinstance(op, Conv2d | Linear)
    return initial_weight(op, rule.value, np.random.default_rng([seed, draw_key(name, "init")]))
