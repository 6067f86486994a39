"""How fast the INT8 convolutions of a training step are, next to PyTorch's in FP32.

Forward, dX and dW of every convolution of a network, one after the other in one process; the best
of all rounds counts. Ours requantise by a known shift and write into arrays that exist, as a
training step does. PyTorch takes part where it is importable (channels-last; its dX and dW come
in one backward call). The bound is what the CPU's multiply-add instructions alone would take:
a long product whose operands stay in L1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from experiments.told import one_line_errors
from experiments.torch_twin import has_torch
from kernels.conv import Conv2d
from kernels.gemm import available_backends, gemm_s8s8s32, pack_b
from kernels.int8.conv import conv_forward, conv_input_grad, conv_weight_grad
from kernels.int8.stored import Store
from kernels.operators import Role
from sim.zoo import load_model

_STORE = Store(9)
_BOUND_SHAPE = (96, 1024, 64)
"""M, K, N of a product that stays in the first caches."""

Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One role of one layer: milliseconds and 10^9 MAC/s in the best call, and the bound."""

    layer: str
    role: str
    ms: float
    gmacs: float
    bound_gmacs: float
    torch_ms: float | None


def _layer_name(op: Conv2d) -> str:
    return f"{op.c_in}x{op.h}x{op.w} -> {op.c_out}, {op.k_h}x{op.k_w}" + (
        f" /{op.stride}" if op.stride > 1 else ""
    )


def _actions(op: Conv2d, first: bool, backend: str, threads: int) -> dict[Role, Action]:
    """What to time; the first layer has no dX in training."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
        return rng.integers(-127, 128, shape).astype(np.int8)

    x, e = draw(op.n, op.h, op.w, op.c_in), draw(op.n, op.h_out, op.w_out, op.c_out)
    w = draw(op.c_out, op.k_h, op.k_w, op.c_in // op.groups)
    how: dict[str, Any] = {"backend": backend, "threads": threads}
    actions: dict[Role, Action] = {
        Role.FORWARD: partial(conv_forward, x, w, op, store=_STORE, out=np.empty_like(e), **how),
        Role.INPUT_GRAD: partial(
            conv_input_grad, e, w, op, store=_STORE, out=np.empty_like(x), **how
        ),
        Role.WEIGHT_GRAD: partial(
            conv_weight_grad, x, e, op, out=np.empty(w.shape, np.int32), **how
        ),
    }
    if first:
        del actions[Role.INPUT_GRAD]
    return actions


def _torch_actions(op: Conv2d, first: bool, threads: int) -> dict[Role, Action]:
    """Forward, and one backward call that gives dX and dW together."""
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last
    x = torch.randn(op.n, op.c_in, op.h, op.w).to(memory_format=layout).requires_grad_(not first)
    layer = torch.nn.Conv2d(
        op.c_in, op.c_out, (op.k_h, op.k_w), op.stride, (op.pad_h, op.pad_w), op.dilation,
        op.groups, bias=False,
    ).to(memory_format=layout)  # fmt: skip
    y = layer(x)
    e = torch.randn_like(y)
    wanted = [layer.weight] if first else [x, layer.weight]
    return {
        Role.FORWARD: lambda: layer(x),
        Role.WEIGHT_GRAD: lambda: torch.autograd.grad(y, wanted, e, retain_graph=True),
    }


def _best(action: Action, rounds: int) -> float:
    """Seconds of the quickest call, after one that does not count."""
    action()
    taken = []
    for _ in range(rounds):
        begin = perf_counter()
        action()
        taken.append(perf_counter() - begin)
    return min(taken)


def bound(backend: str, threads: int, rounds: int) -> float:
    """10^9 MAC/s of products that stay in L1, on one thread, times ``threads``."""
    rows, depth, columns = _BOUND_SHAPE
    rng = np.random.default_rng(0)
    a = rng.integers(-127, 128, (rows, depth)).astype(np.int8)
    b = pack_b(rng.integers(-127, 128, (depth, columns)).astype(np.int8), backend, 1)
    out = np.empty((rows, columns), np.int32)
    seconds = _best(lambda: [gemm_s8s8s32(a, b, out, None, 1) for _ in range(20)], rounds) / 20
    return threads * rows * depth * columns / seconds / 1e9


def measure(
    model: str = "vgg11", batch: int = 64, backend: str | None = None, threads: int = 2,
    rounds: int = 8,
) -> Iterator[Row]:  # fmt: skip
    """Rows of every convolution of ``model``, in order, a layer that occurs twice twice.

    PyTorch's backward time stands in the row of dW, and covers dX too.
    """
    name = available_backends()[0] if backend is None else backend
    limit = bound(name, threads, rounds)
    with_torch = has_torch()
    convs = [layer.op for layer in load_model(model, batch).layers if isinstance(layer.op, Conv2d)]
    for number, op in enumerate(convs):
        theirs = _torch_actions(op, number == 0, threads) if with_torch else {}
        for role, action in _actions(op, number == 0, name, threads).items():
            seconds = _best(action, rounds)
            torch_ms = _best(theirs[role], rounds) * 1e3 if role in theirs else None
            macs = op.work(role).macs
            yield Row(
                _layer_name(op), str(role), seconds * 1e3, macs / seconds / 1e9, limit, torch_ms
            )


def totals(rows: Sequence[Row]) -> tuple[float, float | None]:
    """Milliseconds of all rows: ours, and PyTorch's where it took part."""
    theirs = [row.torch_ms for row in rows if row.torch_ms is not None]
    return sum(row.ms for row in rows), sum(theirs) if theirs else None


def table(rows: Sequence[Row]) -> str:
    """The rows, then the sums and their ratio."""
    lines = [
        f"{'layer':26s} {'role':12s} {'ms':>8s} {'GMAC/s':>8s} {'of bound':>8s} {'torch ms':>9s}"
    ]
    for row in rows:
        torch_ms = "" if row.torch_ms is None else f"{row.torch_ms:9.2f}"
        share = row.gmacs / row.bound_gmacs
        lines.append(
            f"{row.layer:26s} {row.role:12s} {row.ms:8.2f} {row.gmacs:8.1f} {share:8.0%} {torch_ms}"
        )
    ours, theirs = totals(rows)
    lines.append(f"{'all':26s} {'':12s} {ours:8.2f}")
    if theirs is not None:
        lines.append(f"PyTorch FP32 {theirs:.2f} ms: {theirs / ours:.2f} x")
    return "\n".join(lines)


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_conv", description=__doc__)
    parser.add_argument("--model", default="vgg11", help="network of the zoo (vgg11)")
    parser.add_argument("--batch", type=int, default=64, help="samples per step (64)")
    parser.add_argument("--backend", help="GEMM back-end; the fastest by default")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender (2)")
    parser.add_argument("--rounds", type=int, default=8, help="calls; the best counts (8)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    for name in ("batch", "threads", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; give 1 or more")
    rows = list(
        measure(options.model, options.batch, options.backend, options.threads, options.rounds)
    )
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()
