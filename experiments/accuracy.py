"""The accuracy study: INT8 against FP32 on real images, with every profile and rescale rule.

``python -m experiments.accuracy --cifar10 DIR --mnist DIR`` trains what is asked for (by default
all), resumes what was stopped, and keeps small figures of each finished run, with the command that
repeats it, in ``results/accuracy.json``. All runs of one network have equal images, epochs, batch,
rate and augmentation; the epoch is chosen on held-out training images, the test images are used
once. LeNet learns from the 10,000 test images of MNIST, 8,000 to train and 2,000 to test on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.results import FOLDER, read_result, write_result
from experiments.training.compare import accuracy_difference, reached
from experiments.training.config import TrainConfig
from experiments.training.loop import Stopped, train
from sim import build_plan, load_device, load_model, training_graph
from sim.files import write_atomic
from sim.lowering import lowering

RESULT = FOLDER / "accuracy.json"
RULES = {
    "every": "every",
    "fixed": "fixed:16",
    "adaptive": "adaptive:1:64",
    "hindsight": "hindsight",
    "delayed": "delayed:16",
}
"""The five rescale rules; ``adaptive`` is that of the plan ``mandheling``."""
RELEASED = ("niti_v1", "niti_v2", "mandheling_cpu", "mandheling_dsp")
SEEDS = (0, 1, 2)
BATCH = 64
DEVICE = "snapdragon-865"
TARGET_LOSS = 0.02
"""Time and energy are taken to FP32's accuracy minus this."""


@dataclass(frozen=True, slots=True)
class Study:
    """Runs of one network on one data set."""

    model: str
    config: TrainConfig
    seeds: tuple[int, ...]
    rules: tuple[str, ...]
    profiles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """One run: its name, its settings, and the rescale rule that its plan is given."""

    name: str
    config: TrainConfig
    rule: str | None


def studies(cifar10: str, mnist: str) -> dict[str, Study]:
    """Return the studies by name; folders hold the data files."""
    lenet = TrainConfig(
        "lenet", "mnist", data=mnist, device=DEVICE, epochs=12, batch=BATCH, rate=0.02,
        split_of_test=(8000, 2000),
    )  # fmt: skip
    vgg = TrainConfig(
        "vgg11", "cifar10", data=cifar10, device=DEVICE, epochs=15, batch=BATCH, rate=0.05
    )
    resnet = replace(vgg, model="resnet18", epochs=5)
    return {
        "lenet": Study("lenet", lenet, SEEDS, tuple(RULES), RELEASED),
        "vgg11": Study("vgg11", vgg, (0,), ("adaptive", "every"), RELEASED),
        "resnet18": Study("resnet18", resnet, (0,), ("adaptive",), ()),
    }


def runs_of(study: Study) -> list[Planned]:
    """Return the runs of a study: FP32, each rule in the sandbox profile, each released code."""
    planned = []
    for seed in study.seeds:
        config = replace(study.config, seed=seed)
        name = f"{study.model}-seed{seed}"
        planned.append(Planned(f"{name}-fp32", replace(config, plan="mnn-fp32"), None))
        for rule in study.rules:
            planned.append(Planned(f"{name}-sandbox-{rule}", config, rule))
        for profile in study.profiles:
            released = replace(config, profile=profile)
            planned.append(Planned(f"{name}-{profile}-every", released, "every"))
    return planned


def with_rule(planned: Planned, folder: Path) -> TrainConfig:
    """Return the settings with a plan file that gives every tensor the rule."""
    if planned.rule in (None, "adaptive"):
        return planned.config
    config = planned.config
    graph = training_graph(load_model(config.model, batch=config.batch))
    device = load_device(DEVICE)
    plan = build_plan("mandheling", graph, device)
    rule = RULES[planned.rule or "every"]
    subjects = lowering(graph, plan, device).rules
    plan = plan.update({("rescale", subject): rule for subject in subjects})
    path = folder / f"{planned.name}.plan.json"
    text = plan.to_json()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    return replace(config, plan=str(path))


def command(planned: Planned) -> str:
    """The command that repeats a run, but for the folder of the data."""
    config = planned.config
    words = [f"mandheling train --model {config.model} --dataset {config.dataset} --data DIR"]
    plan = config.plan if planned.rule in (None, "adaptive") else f"{planned.name}.plan.json"
    words.append(f"--plan {plan} --profile {config.profile} --device {config.device}")
    words.append(f"--epochs {config.epochs} --batch {config.batch} --rate {config.rate}")
    words.append(f"--seed {config.seed}")
    if config.split_of_test:
        words.append("--split-of-test " + ",".join(map(str, config.split_of_test)))
    return " ".join(words)


def figures(planned: Planned, result: dict[str, Any]) -> dict[str, Any]:
    """What the study keeps of a finished run: small, and enough to compare it with others."""
    rows = result["epochs"]
    later = [row["rescale"] for row in rows[1:] if row["rescale"]]
    kept = ("accuracy", "correct", "images", "right_hex")
    return {
        "command": command(planned),
        "rule": RULES.get(planned.rule or ""),
        "profile": planned.config.profile if planned.rule else "fp32",
        "seed": planned.config.seed,
        "test": {name: result["test"][name] for name in kept},
        "identity": {"test_sha256": result["identity"]["test_sha256"]},
        "chosen_epoch": result["chosen_epoch"],
        "epochs": rows,
        "simulated": result["simulated"],
        "skipped_after_first_epoch": (
            1 - sum(r["scans"] for r in later) / sum(r["tensors"] for r in later) if later else None
        ),
        "weights_sha256": result["weights_sha256"],
        "wall_ms": result["wall_ms"],
        "versions": result["manifest"]["versions"],
    }


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Test accuracy by run, mean over seeds, difference to FP32, scans skipped, values lost."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        model, _, rest = name.split("-", 2)
        groups.setdefault(f"{model} {rest}", []).append(run)
    lines = [
        f"{'run':36s} {'seeds':>5s} {'test':>7s} {'- FP32':>7s} {'skipped':>8s} {'clipped':>9s}"
    ]
    for name, members in groups.items():
        model = name.split()[0]
        accuracy = mean(run["test"]["accuracy"] for run in members)
        base = groups.get(f"{model} fp32")
        gap = accuracy - mean(r["test"]["accuracy"] for r in base) if base else float("nan")
        skipped = [r["skipped_after_first_epoch"] for r in members]
        clipped = [r["epochs"][-1]["rescale"] for r in members]
        line = f"{name:36s} {len(members):5d} {100 * accuracy:6.2f}% {100 * gap:+6.2f}"
        if skipped[0] is not None and clipped[0] is not None:
            share = mean(c["saturated_share"] for c in clipped)
            line += f"  {100 * mean(skipped):6.1f}% {share:9.1e}"
        lines.append(line)
    return "\n".join(lines)


def comparisons(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Pairs that the study is about: adaptive against every step, and time to FP32's accuracy."""
    found: dict[str, Any] = {}
    for name, run in runs.items():
        if name.endswith("sandbox-adaptive"):
            stem = name.removesuffix("-sandbox-adaptive")
            every, fp32 = runs.get(f"{stem}-sandbox-every"), runs.get(f"{stem}-fp32")
            pair: dict[str, Any] = {}
            if every:
                pair["adaptive_minus_every"] = _difference(every, run)
            if fp32:
                pair["adaptive_minus_fp32"] = _difference(fp32, run)
                pair["to_accuracy"] = _race(fp32, run)
            found[stem] = pair
    return found


def _difference(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    difference = accuracy_difference(first, second)
    return {"points": 100 * difference.difference, "low": 100 * difference.low,
            "high": 100 * difference.high}  # fmt: skip


def _race(fp32: dict[str, Any], int8: dict[str, Any]) -> dict[str, Any] | None:
    """Predicted time and energy to FP32's best validation accuracy minus the target loss."""
    best = max(row["validation_accuracy"] for row in fp32["epochs"])
    ends = [reached(run, best - TARGET_LOSS) for run in (fp32, int8)]
    if ends[0] is None or ends[1] is None:
        return None
    return {
        "accuracy": best - TARGET_LOSS,
        "epochs": [end.epoch for end in ends if end],
        "time_ratio": ends[0].time_ns / ends[1].time_ns,
        "energy_ratio": ends[0].energy_pj / ends[1].energy_pj,
        "note": "predicted, not measured",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, keep the figures, print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.accuracy", description=__doc__)
    parser.add_argument("--cifar10", default="data/cifar10", help="folder of CIFAR-10's files")
    parser.add_argument("--mnist", default="data/mnist", help="folder of MNIST's t10k files")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="folder of runs")
    parser.add_argument("--only", default="", help="only runs whose names contain this")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    options = parser.parse_args(arguments)
    options.runs.mkdir(parents=True, exist_ok=True)
    try:
        for study in studies(options.cifar10, options.mnist).values():
            for planned in runs_of(study):
                if options.only in planned.name:
                    _run(planned, options.runs, options.threads)
    except (KeyboardInterrupt, Stopped):
        print("stopped; the same command goes on")
    content = read_result(RESULT)
    print(table(content.get("runs", {})))


def _run(planned: Planned, folder: Path, threads: int | None) -> None:
    """Train one run, or take what it gave before; write its figures beside the others'."""
    config = replace(with_rule(planned, folder), threads=threads)
    print(planned.name, flush=True)
    result = train(config, folder / planned.name)
    content = read_result(RESULT)
    runs = {**content.get("runs", {}), planned.name: figures(planned, result)}
    write_result(RESULT, {"runs": runs, "comparisons": comparisons(runs)})


if __name__ == "__main__":
    main()
