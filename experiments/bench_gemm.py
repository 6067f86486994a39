"""How fast the INT8 GEMM is: ratios to the float32 and INT8 products of NumPy and PyTorch.

All contenders run in one process, in turns, with a pause between them (idle threads of OpenMP
and OpenBLAS spin for a while) and a few calls that are not timed; the best of all rounds counts.
Ours includes packing B, except where it says packed. PyTorch takes part where it is importable.
The peak is measured as well:
``vpdpbusd`` on registers alone, and the clock by a chain of dependent multiplies, which take
3 cycles each (and 1 for the add) on every x86 core with VNNI. Beside each best rate stands the
median: where they are far apart, someone else used the machine, and a ratio says little.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median
from time import perf_counter, sleep
from typing import Any, cast

import numpy as np

from experiments.told import one_line_errors
from kernels.gemm import available_backends, gemm_s8s8s32, lacking, pack_b

SHAPE = (4096, 1024, 1024)
"""M, K, N."""
INT8_RATIO, FP32_RATIO = 1.5, 3.5
"""Aims: ours over ``torch._int_mm`` and over PyTorch's float32 product."""
PAUSE_SECONDS = 0.03
_CALLS, _UNTIMED = 10, 3
"""Calls of a turn, the first of which wake threads while those of others may still spin."""
_SUMS = 24
_PEAK_STEPS = 4_000_000

Action = Callable[[], object]


def _register_loop() -> Callable[[int], int]:
    """Compiled loop of 24 independent ``vpdpbusd`` of 512 bits per step, on registers alone."""
    from llvmlite import ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    i32, i64 = ir.IntType(32), ir.IntType(64)
    sums_in, bytes_in = ir.VectorType(i32, 16), ir.VectorType(ir.IntType(8), 64)
    declare: Callable[..., Any] = cgutils.get_or_insert_function

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(sums_in, [sums_in, bytes_in, bytes_in])
        dot = declare(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        ones = ir.Constant(sums_in, [1] * 16)
        seed = builder.trunc(args[0], i32)
        data = builder.bitcast(builder.insert_element(ones, seed, i32(0)), bytes_in)
        entry, loop = builder.block, builder.append_basic_block("step")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(i64)
        sums = [builder.phi(sums_in) for _ in range(_SUMS)]
        added = [builder.call(dot, [total, data, data]) for total in sums]
        for n, (total, value) in enumerate(zip(sums, added, strict=True)):
            total.add_incoming(ir.Constant(sums_in, [n] * 16), entry)
            total.add_incoming(value, loop)
        following = builder.add(step, i64(1))
        step.add_incoming(i64(0), entry)
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, done)
        builder.position_at_end(done)
        result = added[0]
        for value in added[1:]:
            result = builder.xor(result, value)
        return builder.extract_element(result, i32(0))

    def typing(context: Any, steps: Any) -> Any:
        return types.int32(types.int64), emit

    loop: Callable[[int], int] = cast(Any, intrinsic)(typing)
    return cast(Callable[[int], int], njit(nogil=True)(lambda steps: loop(steps)))


def _multiply_chain() -> Callable[[int, int], int]:
    """Compiled chain of dependent ``x * x + x``: 4 cycles per link."""
    from numba import njit

    def chain(links: int, x: int) -> int:
        for _ in range(links):
            x = x * x + x
        return x

    return cast(Callable[[int, int], int], njit(nogil=True)(chain))


def contenders(threads: int) -> tuple[dict[str, Action], dict[str, float]]:
    """Actions by name, and the MACs (or cycles, for the clock) that each performs."""
    rows, depth, columns = SHAPE
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (rows, depth)).astype(np.int8)
    b = rng.integers(-128, 128, (depth, columns)).astype(np.int8)
    a32, b32 = a.astype(np.float32), b.astype(np.float32)
    packed = pack_b(b)
    actions: dict[str, Action] = {
        f"ours: {name}": partial(gemm_s8s8s32, a, b, None, name, threads)
        for name in available_backends()
        if name != "reference"
    }
    actions["ours: B packed before"] = lambda: gemm_s8s8s32(a, packed, None, None, threads)
    actions["NumPy float32"] = lambda: a32 @ b32
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        ta32, tb32 = ta.float(), tb.float()
        actions["torch._int_mm"] = lambda: torch._int_mm(ta, tb)
        actions["torch float32"] = lambda: ta32 @ tb32
        if not np.array_equal(torch._int_mm(ta, tb).numpy(), gemm_s8s8s32(a, packed)):
            raise SystemExit("torch._int_mm and ours differ: one of them is not exact")
    macs = dict.fromkeys(actions, float(rows * depth * columns))
    if lacking("vnni") is None:
        loop, chain = _register_loop(), _multiply_chain()
        pool = ThreadPoolExecutor(threads)
        actions["peak"] = lambda: list(pool.map(loop, [_PEAK_STEPS] * threads))
        macs["peak"] = float(threads * _PEAK_STEPS * _SUMS * 64)
        actions["clock"] = lambda: chain(_PEAK_STEPS, 3)
        macs["clock"] = 4.0 * _PEAK_STEPS
    return actions, macs


@dataclass(frozen=True, slots=True)
class Rate:
    """10^9 MAC/s of one contender (of ``clock``: GHz), in its best call and in its median one."""

    best: float
    median: float


def measure(threads: int, rounds: int) -> dict[str, Rate]:
    """Rates of all contenders over all rounds."""
    actions, macs = contenders(threads)
    for action in actions.values():  # compile, start threads, touch memory
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            sleep(PAUSE_SECONDS)
            for call in range(_CALLS):
                begin = perf_counter()
                action()
                if call >= _UNTIMED:
                    seconds[name].append(perf_counter() - begin)
    return {
        name: Rate(macs[name] / min(taken) / 1e9, macs[name] / median(taken) / 1e9)
        for name, taken in seconds.items()
    }


def ratios(rates: dict[str, Rate], ours: str) -> dict[str, float]:
    """Best rate of ours over that of each rival, and its share of the peak, where those ran."""
    rivals = ("NumPy float32", "torch._int_mm", "torch float32", "peak")
    return {name: rates[ours].best / rates[name].best for name in rivals if name in rates}


def table(rates: dict[str, Rate], ours: str) -> str:
    """Rates, then ratios of ours to the others, with the aims."""
    lines = [f"{'':22s} {'best':>8s} {'median':>8s}"]
    for name, rate in rates.items():
        unit = "GHz" if name == "clock" else "GMAC/s"
        lines.append(f"{name:22s} {rate.best:8.1f} {rate.median:8.1f} {unit}")
    aims = {"torch._int_mm": INT8_RATIO, "torch float32": FP32_RATIO}
    for name, ratio in ratios(rates, ours).items():
        line = f"{ours} / {name:14s} {ratio:6.2f} x"
        if name in aims:
            line += f"  >= {aims[name]:g} x  " + ("kept" if ratio >= aims[name] else "MISSED")
        lines.append(line)
    if {"peak", "torch._int_mm"} <= rates.keys():
        most = rates["peak"].best / rates["torch._int_mm"].best
        lines.append(f"peak / torch._int_mm: {most:.2f} x, the most that this machine allows")
    return "\n".join(lines)


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_gemm", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=12, help="rounds; the best counts (12)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender (2)")
    options = parser.parse_args(arguments)
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; give 1 or more")
    rates = measure(options.threads, options.rounds)
    ours = f"ours: {available_backends()[0]}"
    if options.json:
        gmacs = {name: asdict(rate) for name, rate in rates.items()}
        content = {"shape": SHAPE, "threads": options.threads, "gmacs": gmacs}
        print(json.dumps(content | {"ratios": ratios(rates, ours)}, indent=1))
    else:
        print(table(rates, ours))


if __name__ == "__main__":
    main()
