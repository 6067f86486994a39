"""Packets of any kernel on any shape, counted by the emulator: the samples of the packet model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.packets.shapes import PacketShape
from cost_models.samples import Fingerprint, Json, Sample
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.build import build_hash
from hw_bridge.hexagon.errors import RunnerError
from hw_bridge.hexagon.protocol import Counts
from hw_bridge.hexagon.runner import Runner
from hw_bridge.hexagon.toolchain import check_architecture, compiler, emulator
from hw_bridge.samples import SampleStore, collect
from kernels.conv import Conv2d
from kernels.int8.stored import Store
from kernels.pool import MaxPool2d
from kernels.profiles import PROFILES, TensorRole, rule_of
from kernels.rounding import Rounding

_SHIFT = 9
"""Shift of INT8 stores; packets do not depend on it as long as it is positive."""
_RATES = (1 << 18, 1 << 15, 1 << 20)
_RULES = {
    "half_away": rule_of(PROFILES["sandbox"], TensorRole.ACTIVATION),
    "half_up": rule_of(PROFILES["mandheling_dsp"], TensorRole.ACTIVATION),
    "psto": rule_of(PROFILES["sandbox"], TensorRole.GRADIENT),
}
"""Rules of the profiles, by the rounding that they store with."""


def fingerprint(arch: str, threads: str = "1") -> Fingerprint:
    """What packets of a build depend on: its sources, flags, compiler, emulator and threads.

    Raises
    ------
    ToolError
        No compiler or emulator, or an unknown version.
    """
    facts = {
        "hexagon": check_architecture(arch),
        "build": build_hash(arch),
        "compiler": compiler().version,
        "emulator": emulator().version,
        "threads": threads,
    }
    return Fingerprint("hexagon", facts)


def count(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    """Run the kernel of a shape once on drawn values, and give what the emulator counted.

    Raises
    ------
    KernelError
        The kernel refuses the shape.
    """
    return _CALLS[shape.family](dsp, shape)


def measured(dsp: HexagonKernels) -> Callable[[str, Mapping[str, Json]], Sample]:
    """Return what :func:`hw_bridge.samples.collect` asks for one sample."""

    def measure(key: str, config: Mapping[str, Json]) -> Sample:
        counts = count(dsp, PacketShape.of_document(config))
        return Sample(key, "kernel", "packets", (counts.packets,), config)

    return measure


def sample_packets(
    store: SampleStore,
    arch: str,
    shapes: Iterable[tuple[str, PacketShape]],
    *,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Count every shape that the store lacks, and return how many were.

    Parameters
    ----------
    store
        Opened with :func:`fingerprint` of this build.
    shapes
        Pairs of group and shape; a shape that comes again under another group is left out, so
        that no group knows a row of another.

    Raises
    ------
    RunnerError
        The runner crashed or hung; what was counted before is kept.
    """
    wanted: dict[str, Mapping[str, Json]] = {}
    for group, shape in shapes:
        wanted.setdefault(shape.key, {**shape.document(), "group": group})
    with Runner(arch) as runner:
        measure = measured(HexagonKernels(runner))
        try:
            return collect(store, wanted.items(), measure, seed=seed, advance=advance)
        except RunnerError as error:
            raise RunnerError(
                f"{error}; {len(store.samples)} counted so far are kept in {store.path}: run the "
                "same command again to go on",
                error.code,
                error.said,
            ) from None


def _int8s(*shape: int) -> NDArray[np.int8]:
    return np.random.default_rng(shape).integers(-128, 128, shape, np.int8)


def _int32s(count: int) -> NDArray[np.int32]:
    return np.random.default_rng(count).integers(-(2**20), 2**20, count).astype(np.int32)


def _store(form: str) -> Store | None:
    return None if form == "int32" else Store(_SHIFT, Rounding(form))


def _conv(shape: PacketShape) -> tuple[Conv2d, NDArray[np.int8]]:
    op = shape.layer()
    assert isinstance(op, Conv2d)
    return op, _int8s(op.c_out, op.k_h, op.k_w, op.c_in // op.groups)


def _gemm(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    m, k, n = shape.sizes
    return dsp.gemm(_int8s(m, k), _int8s(k, n), _store(shape.form)).counts


def _forward(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    op, w = _conv(shape)
    x = _int8s(op.n, op.h, op.w, op.c_in)
    return dsp.conv_forward(x, w, op, store=_store(shape.form)).counts


def _input_grad(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    op, w = _conv(shape)
    e = _int8s(op.n, op.h_out, op.w_out, op.c_out)
    return dsp.conv_input_grad(e, w, op, store=_store(shape.form)).counts


def _weight_grad(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    op, w = _conv(shape)
    x, e = _int8s(op.n, op.h, op.w, op.c_in), _int8s(op.n, op.h_out, op.w_out, op.c_out)
    into = np.zeros(w.shape, np.int32) if shape.form == "into" else None
    return dsp.conv_weight_grad(x, e, op, into=into).counts


def _pool(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    op = shape.layer()
    assert isinstance(op, MaxPool2d)
    x = _int8s(op.n, op.h, op.w, op.c)
    if shape.family == "max_pool_forward":
        return dsp.max_pool_forward(x, op).counts
    return dsp.max_pool_input_grad(x, _int8s(op.n, op.h_out, op.w_out, op.c), op).counts


def _add(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    """Exponents near each other, as those of a sum's terms are: all shifts go left."""
    terms, elements = shape.sizes
    shift = 2 if shape.form == "known" else None
    values = list(_int8s(terms, elements))
    return dsp.add(values, range(terms), _RULES["half_away"], shift).counts


def _wide_update(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    elements = shape["elements"]
    gradient: NDArray[Any] = _int8s(elements) if shape.form == "int8" else _int32s(elements)
    return dsp.wide_update(_int32s(elements), _int32s(elements), gradient, (3, 0), _RATES).counts


def _from_d32(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    n, h, w, c = shape.sizes
    return dsp.from_d32(_int8s(n, h, -(-c // 32), w, 32), c).counts


def _rotate180(dsp: HexagonKernels, shape: PacketShape) -> Counts:
    outputs, taps, channels = shape.sizes
    return dsp.rotate180(_int8s(outputs, taps, 1, channels)).counts


_CALLS: dict[str, Callable[[HexagonKernels, PacketShape], Counts]] = {
    "gemm": _gemm,
    "forward": _forward,
    "input_grad": _input_grad,
    "weight_grad": _weight_grad,
    "amax": lambda dsp, s: dsp.amax(_int32s(*s.sizes)).counts,
    "requantise": lambda dsp, s: (
        dsp.requantise(_int32s(*s.sizes), Store(_SHIFT, Rounding(s.form))).counts
    ),
    "rescale": lambda dsp, s: dsp.rescale(_int32s(*s.sizes), _RULES[s.form]).counts,
    "relu_forward": lambda dsp, s: dsp.relu_forward(_int8s(*s.sizes)).counts,
    "relu_input_grad": lambda dsp, s: (
        dsp.relu_input_grad(_int8s(*s.sizes), _int8s(*s.sizes)).counts
    ),
    "max_pool_forward": _pool,
    "max_pool_input_grad": _pool,
    "add": _add,
    "transpose": lambda dsp, s: dsp.transpose(_int8s(*s.sizes)).counts,
    "to_d32": lambda dsp, s: dsp.to_d32(_int8s(*s.sizes)).counts,
    "from_d32": _from_d32,
    "rotate180": _rotate180,
    "niti_update": lambda dsp, s: dsp.niti_update(_int8s(*s.sizes), _int8s(*s.sizes)).counts,
    "wide_update": _wide_update,
}
