"""A rescale rule of your own: what it costs on a phone, and what it does to real training.

    python examples/new_rescaling_policy.py --epochs 3 --out runs/rules

``cautious:N`` scans in each N-th step and uses the larger of the last two shifts that it found.
Shifts of real training flicker between neighbours; the larger of two should clip less, and cost
precision in the steps that would have done with the smaller one. Whether it does shows below:
values clipped, and small ones that became 0. (Three epochs: it clips as much as ``fixed:16`` and
loses more. Not every idea is a good one.)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_models.cost import Rescaling
from experiments.training.config import TrainConfig
from experiments.training.loop import train
from sim import build_plan, expect, load_device, load_model, training_graph
from sim.plan import Plan
from sim.rescaling import RULES, UNKNOWN, RescaleRule, RescaleState

RIVALS = ("every", "fixed:16", "adaptive:4:64", "hindsight")


@dataclass(frozen=True, slots=True)
class Cautious(RescaleRule):
    """Scan in each n-th step; use the larger of the last two shifts found."""

    n: int

    def mode(self, state: RescaleState) -> Rescaling:
        """Dynamic when no shift is known or n steps are over."""
        return "dynamic" if state.used == UNKNOWN or state.since + 1 >= self.n else "fused"

    def next(self, state: RescaleState, true_shift: int) -> RescaleState:
        """Count a step, or remember what a scan found; its shift is not known otherwise."""
        if self.mode(state) != "dynamic":
            return state._replace(since=state.since + 1)
        history = (*state.history, true_shift)[-2:]
        return RescaleState(max(history), history=history)


def ruled(plan: Plan, rule: str) -> Plan:
    """Return a plan with another rule for every rescaled tensor."""
    return plan.update({("rescale", s): rule for s in plan.aspect("rescale")}, name=rule)


def predicted(rule: str, model: str, device: str, batch: int) -> tuple[float, float]:
    """Return the expected step and the part of it that rescaling is on the critical path, ms."""
    graph, phone = training_graph(load_model(model, batch)), load_device(device)
    step = expect(graph, ruled(build_plan("mandheling", graph, phone), rule), phone)
    return step.time_ns / 1e6, step.breakdown_ns["rescale"] / 1e6


def trained(rule: str, out: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Train LeNet on the built-in digits in INT8 under a rule; return the run's result.

    The naive offload is the plan, since it has every layer in INT8.
    """
    graph, phone = training_graph(load_model("lenet", 64)), load_device("snapdragon-865")
    plan = build_plan("dsp-int8+rescale", graph, phone)
    folder = out / rule.replace(":", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".json")
    file.write_text(ruled(plan, rule).to_json(), encoding="utf-8")
    config = TrainConfig("lenet", "digits", plan=str(file), epochs=epochs, seed=seed)
    return train(config, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each rule costs and how training with it ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rules", nargs="+", default=["cautious:16", *RIVALS])
    parser.add_argument("--model", default="vgg16", help="whose step is predicted")
    parser.add_argument("--device", default="snapdragon-865")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/rules"))
    given = parser.parse_args(arguments)
    if "cautious" not in RULES:  # it is there if the examples are installed
        RULES.add("cautious", Cautious)
    print(
        f"step: {given.model}, batch {given.batch}, on {given.device}, predicted; the others: "
        f"LeNet on digits, {given.epochs} epochs, seed {given.seed}, computed"
    )
    heads = ("step ms", "rescale ms", "test %", "scans %", "clipped ppm", "lost ppm")
    print(f"{'rule':14s}" + "".join(f"{head:>12s}" for head in heads))
    for rule in given.rules:
        step, rescale = predicted(rule, given.model, given.device, given.batch)
        result = trained(rule, given.out, given.epochs, given.seed)
        met = result["rescale"]
        row = (
            step,
            rescale,
            100 * result["test"]["accuracy"],
            100 * met["scans"] / met["tensors"],
            1e6 * met["saturated_share"],
            1e6 * met["lost_share"],
        )
        print(f"{rule:14s}" + "".join(f"{value:12.2f}" for value in row))


if __name__ == "__main__":
    main()
