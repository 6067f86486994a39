"""Golden integers: what a few plans cost, kept in the repository and compared in every test run.

A change of a constant, a kernel's cost or a policy moves them. That is often intended; it should
never go unseen. ``python -m experiments.golden`` shows what moved and by how much, then rewrites
the file; with ``--check`` it only shows, and fails if anything moved.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cost_models.device import load_device
from experiments.told import one_line_errors
from sim.autodiff import training_graph
from sim.expected import expect
from sim.policies.build import available, build_plan
from sim.policies.recipes import RECIPES
from sim.zoo import load_model

PATH = Path(__file__).parent.parent / "tests" / "golden" / "steps.json"
MODELS = {"lenet": 64, "vgg11": 64, "resnet18": 32, "mobilenet-v2": 8}
"""Model and batch: plain, abnormal convolutions, batch norm and sums, depthwise."""
DEVICES = ("snapdragon-865", "snapdragon-888", "laptop")
PLANS = ("mnn-fp32", "mnn-fp32-gpu", "mnn-int8", "dsp-int8", "released")
SEARCHED = ("mandheling",)
"""Plans made by search: they are here for the small models alone, as a change of any cost may
change their choices."""
SMALL_MODELS = ("lenet", "vgg11")

Golden = dict[str, dict[str, int]]
"""``makespan_ns``, ``energy_pj`` and ``peak_bytes`` of the expected step, by case."""


def cases() -> Iterator[tuple[str, int, str, str]]:
    """Yield model, batch, device and plan of each case that the device can run."""
    for model, batch in MODELS.items():
        names = (*PLANS, *SEARCHED) if model in SMALL_MODELS else PLANS
        for device in DEVICES:
            for plan in names:
                if available(RECIPES[plan], load_device(device)):
                    yield model, batch, device, plan


def measure() -> Golden:
    """Compute all golden integers.

    Returns
    -------
    Golden
        By ``model:batch / device / plan``: the expected step time in nanoseconds, its energy in
        picojoules, and the largest memory in use in bytes.
    """
    found: Golden = {}
    for model, batch, name, plan in cases():
        graph, device = training_graph(load_model(model, batch=batch)), load_device(name)
        step = expect(graph, build_plan(plan, graph, device), device)
        found[f"{model}:{batch} / {name} / {plan}"] = {
            "makespan_ns": step.time_ns,
            "energy_pj": step.energy_pj,
            "peak_bytes": step.peak_bytes,
        }
    return found


def to_json(golden: Golden) -> str:
    """Canonical JSON: the same integers always give the same bytes."""
    return json.dumps(golden, indent=1, sort_keys=True) + "\n"


def moved(before: Mapping[str, Mapping[str, int]], after: Golden) -> list[str]:
    """Return one line for each integer that differs, sorted by case.

    Examples
    --------
    >>> moved({"a": {"makespan_ns": 200}}, {"a": {"makespan_ns": 150}})
    ['a: makespan_ns 200 -> 150 (-25.00 %)']
    """
    lines = []
    for case in sorted({*before, *after}):
        if case not in after or case not in before:
            lines.append(f"{case}: {'new' if case in after else 'gone'}")
            continue
        for key, value in after[case].items():
            old = before[case].get(key)
            if old is None:
                lines.append(f"{case}: {key} new, {value}")
            elif old != value:
                change = f"{100 * (value - old) / old:+.2f} %" if old else "was 0"
                lines.append(f"{case}: {key} {old} -> {value} ({change})")
    return lines


def read(path: Path = PATH) -> Golden:
    """Read the golden file; an empty table if there is none yet."""
    if not path.exists():
        return {}
    content: Golden = json.loads(path.read_text(encoding="utf-8"))
    return content


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> int:
    """Show what moved; rewrite the file unless ``--check``. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.golden", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only show; fail if anything moved")
    parser.add_argument(
        "--file", type=Path, default=PATH, help="golden file (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    after = measure()
    lines = moved(read(options.file), after)
    print("\n".join(lines) if lines else f"nothing moved in {len(after)} cases")
    if options.check:
        return 1 if lines else 0
    if lines:
        options.file.parent.mkdir(parents=True, exist_ok=True)
        options.file.write_text(to_json(after), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
