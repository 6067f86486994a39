"""A scheduling policy of your own, compared with the built-in ones.

    python examples/new_scheduling_policy.py --model vgg16 --device snapdragon-865

``spill``: in backpropagation the next layer waits for dX and nobody waits for dW. So every kernel
goes to the unit on which it is faster, and then the CPU takes weight gradients off the DSP, those
first that it is least worse at, until both have the same amount of work.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.compare import Comparison, compare
from kernels.operators import Role
from sim import decide, load_device, load_model, training_graph
from sim.draft import Draft, Item
from sim.policies import PlacementPolicy, Recipe, Situation
from sim.policies.numeric import OneRule
from sim.policies.placing import deciders
from sim.policies.recipes import ADAPTIVE

RIVALS = ("released", "latency", "heft", "mandheling")


@dataclass(frozen=True, slots=True)
class Spill(PlacementPolicy):
    """The faster unit for each kernel, then weight gradients to the CPU until both are as busy."""

    name: str = "spill"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose a unit for each kernel."""
        cpu, choices = situation.cpu, {}
        load = {cpu: 0}  # nanoseconds of work, by unit
        movable: list[tuple[float, Item, int, int]] = []
        for item in deciders(draft):
            cpu_ns = situation.time_ns(item, cpu)
            dsp = next((u for u in situation.units(item) if u.startswith("dsp")), None)
            dsp_ns = None if dsp is None else situation.time_ns(item, dsp)
            if dsp is None or cpu_ns is None or dsp_ns is None or cpu_ns <= dsp_ns:
                load[cpu] += cpu_ns or 0
                continue  # the default is the CPU
            choices[item.subject] = dsp
            load[dsp] = load.get(dsp, 0) + dsp_ns
            if item.role is Role.WEIGHT_GRAD:
                movable.append((cpu_ns / dsp_ns, item, cpu_ns, dsp_ns))
        for _, item, cpu_ns, dsp_ns in sorted(movable, key=lambda each: each[0]):
            dsp = choices[item.subject]
            if load[cpu] + cpu_ns <= load[dsp] - dsp_ns:
                load[cpu] += cpu_ns
                load[dsp] -= dsp_ns
                del choices[item.subject]
        return choices


SPILL = Recipe(
    "spill",
    "Mandheling with weight gradients spilled to the CPU",
    ("int8", "vtcm-rule", OneRule(ADAPTIVE), Spill()),
    {"reuse": "mru", "dispatch": "critical-path"},
    needs="dsp",
)
"""The policy with all else that a plan needs, so that ``--plan spill`` works once installed."""


def compared(model: str, device: str, batch: int, worlds: int) -> Comparison:
    """Compare the policy with its rivals."""
    graph, phone = training_graph(load_model(model, batch)), load_device(device)
    mine = decide("my-spill", graph, phone, SPILL.policies, SPILL.settings)
    return compare(
        graph, phone, names=RIVALS, extra=[mine], worlds=worlds, samples=2, with_waterfalls=False
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row for each plan."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--device", default="snapdragon-865")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--worlds", type=int, default=32, help="draws behind the intervals")
    given = parser.parse_args(arguments)
    found = compared(given.model, given.device, given.batch, given.worlds)
    print(f"{found.model}, batch {found.batch}, on {found.device}: predicted, not measured")
    print(f"{'plan':12s} {'ms':>9s} {'J':>8s} {'speed-up':>9s}  90 %")
    for row in sorted(found.rows, key=lambda row: row.time_ns):
        low, high = row.speedup_interval
        print(
            f"{row.name:12s} {row.time_ns / 1e6:9.2f} {row.energy_pj / 1e12:8.3f} "
            f"{row.speedup:9.2f}  {low:.2f} to {high:.2f}"
        )
    for name, reason in (found.missing | found.failed).items():
        print(f"{name}: {reason}")


if __name__ == "__main__":
    main()
