"""How fast a whole training step is: INT8 and FP32 here, FP32 and bf16 autocast in PyTorch.

All contenders train the same network on the same batch in one process, in turns; the best of all
rounds counts. A step is everything: forward, both gradients, rescale, loss and update. Simulation
of the phone is off: PyTorch simulates none. PyTorch takes part where it is importable, in both
memory layouts; ratios are to the faster one. The best round of ``int8`` is a step without a scan,
as nine of ten are; ``every step rescaled`` scans in each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np

from experiments.told import one_line_errors
from experiments.torch_twin import HINT, has_torch, torch_twin
from sim import build_plan, load_device, load_model, training_graph
from sim.numeric import TrainingSession

AIMS = {
    "vgg11": {"torch fp32": 2.5, "torch bf16": 1.5},
    "resnet18": {"torch fp32": 1.8},
}
"""Ratios asked of the default back-end."""
PORTABLE_AIM = 1.0
"""Ratio to PyTorch FP32 asked of the portable back-end on VGG-11."""
PAUSE_SECONDS = 0.03

Action = Callable[[], object]


def _ours(model: str, batch: int, threads: int) -> dict[str, Action]:
    graph = training_graph(load_model(model, batch=batch))
    device = load_device("snapdragon-865")
    rng = np.random.default_rng(0)
    n, c, h, w = graph.tensor("input").shape
    images = rng.standard_normal((n, h, w, c)).astype(np.float32)
    labels = rng.integers(0, 10, n)

    def contender(plan: str, backend: str | None) -> Action:
        session = TrainingSession(
            graph, build_plan(plan, graph, device), device,
            engine="none", threads=threads, backend=backend,
        )  # fmt: skip
        return lambda: session.step(images, labels, rate_q24=1 << 16)

    return {
        "int8": contender("mandheling", None),
        "int8, every step rescaled": contender("dsp-int8", None),
        "int8, portable": contender("mandheling", "portable"),
        "fp32": contender("mnn-fp32", None),
    }


def _torch(model: str, batch: int, threads: int) -> dict[str, Action]:
    import torch

    torch.set_num_threads(threads)
    forward = load_model(model, batch=batch)
    actions: dict[str, Action] = {}
    for name, layout, half in (
        ("torch fp32, nchw", torch.contiguous_format, False),
        ("torch fp32, channels_last", torch.channels_last, False),
        ("torch bf16, channels_last", torch.channels_last, True),
    ):
        net = torch_twin(forward).to(memory_format=layout)
        images = torch.randn(*forward.input_shape).to(memory_format=layout)
        labels = torch.randint(0, forward.classes, (batch,))
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

        def step(
            net: Any = net, images: Any = images, labels: Any = labels,
            optimiser: Any = optimiser, half: bool = half,
        ) -> None:  # fmt: skip
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = torch.nn.functional.cross_entropy(net(images), labels)
            loss.backward()
            optimiser.step()

        actions[name] = step
    return actions


def measure(model: str, batch: int, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a step, best and median, by contender."""
    actions = _ours(model, batch, threads)
    if has_torch():
        actions |= _torch(model, batch, threads)
    for action in actions.values():  # compile, start threads, touch memory
        action()
        action()
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            sleep(PAUSE_SECONDS)
            begin = perf_counter()
            action()
            taken[name].append(1e3 * (perf_counter() - begin))
    return {name: {"best": min(ms), "median": median(ms)} for name, ms in taken.items()}


def ratios(times: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """PyTorch's best time over each of ours; FP32 is the faster of its two layouts."""
    fp32 = [row["best"] for name, row in times.items() if name.startswith("torch fp32")]
    if not fp32:
        return {}
    rivals = {"torch fp32": min(fp32), "torch bf16": times["torch bf16, channels_last"]["best"]}
    ours = {name: row for name, row in times.items() if not name.startswith("torch")}
    return {
        name: {rival: best / row["best"] for rival, best in rivals.items()}
        for name, row in ours.items()
    }


def table(model: str, times: dict[str, dict[str, float]]) -> str:
    """Times, then ratios with the aims."""
    lines = [f"{model:28s} {'best':>8s} {'median':>8s}  ms per step"]
    lines += [f"{name:28s} {t['best']:8.1f} {t['median']:8.1f}" for name, t in times.items()]
    found = ratios(times)
    for name, against in found.items():
        for rival, ratio in against.items():
            aim = AIMS.get(model, {}).get(rival) if name == "int8" else None
            if (model, name, rival) == ("vgg11", "int8, portable", "torch fp32"):
                aim = PORTABLE_AIM
            verdict = f"  >= {aim:g} x  {'kept' if ratio >= aim else 'MISSED'}" if aim else ""
            lines.append(f"{rival} / {name:26s} {ratio:6.2f} x{verdict}")
    return "\n".join(lines if found else [*lines, HINT])


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_training")
    parser.add_argument("models", nargs="*", default=list(AIMS), help="zoo models (default: both)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--batch", type=int, default=64, help="samples per step (64)")
    parser.add_argument("--rounds", type=int, default=8, help="rounds; the best counts (8)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender (2)")
    options = parser.parse_args(arguments)
    for name in ("batch", "rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; give 1 or more")
    times = {
        model: measure(model, options.batch, options.threads, options.rounds)
        for model in options.models
    }
    if options.json:
        print(
            json.dumps({"ms": times, "ratios": {m: ratios(t) for m, t in times.items()}}, indent=1)
        )
    else:
        print("\n\n".join(table(model, found) for model, found in times.items()))


if __name__ == "__main__":
    main()
