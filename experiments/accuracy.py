"""The accuracy study: INT8 against FP32 on real images, with every profile and rescale rule.

``python -m experiments.accuracy --cifar10 DIR --mnist DIR`` trains what is asked for (by default
all), resumes what was stopped, and keeps small figures of each finished run, with the command that
repeats it, in ``results/accuracy.json``; the plan files that the commands name lie beside the runs.
``--table`` prints what is kept and trains nothing. All runs of one network have equal images,
epochs, batch, rate and augmentation; the epoch is chosen on held-out training images, the test
images are used once. LeNet learns from the 10,000 test images of MNIST, 8,000 to train and 2,000
to test on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiments.results import FOLDER, read_result, write_result
from experiments.told import STOPPED, one_line_errors
from experiments.training.compare import accuracy_difference, reached
from experiments.training.config import TrainConfig
from experiments.training.loop import train
from sim import build_plan, load_device, load_model, training_graph
from sim.files import write_atomic
from sim.lowering import lowering
from sim.policies.recipes import ADAPTIVE

RESULT = FOLDER / "accuracy.json"
RULES = {
    "every": "every",
    "fixed": "fixed:16",
    "adaptive": ADAPTIVE,
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
        "vgg11", "cifar10", data=cifar10, device=DEVICE, epochs=15, batch=BATCH, rate=0.03,
        validation=1000,
    )  # fmt: skip
    resnet = replace(vgg, model="resnet18", epochs=3)
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
    """Return the settings with a plan file that gives every tensor the rule; FP32 as it is.

    The rule is written out for ``adaptive`` too, which the plan ``mandheling`` has anyway: what a
    result says was run does not depend on a default elsewhere.
    """
    if planned.rule is None:
        return planned.config
    path = folder / f"{planned.name}.plan.json"
    return with_one_rule(planned.config, RULES[planned.rule], path)


def with_one_rule(config: TrainConfig, rule: str, path: Path) -> TrainConfig:
    """Return settings whose plan, written to ``path``, rescales every tensor by one rule.

    The plan is ``mandheling`` for :data:`DEVICE` otherwise. The folder is made if it is new.
    """
    graph = training_graph(load_model(config.model, batch=config.batch))
    device = load_device(DEVICE)
    plan = build_plan("mandheling", graph, device)
    subjects = lowering(graph, plan, device).rules
    plan = plan.update({("rescale", subject): rule for subject in subjects})
    text = plan.to_json()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    return replace(config, plan=str(path))


def command(planned: Planned) -> str:
    """The command that repeats a run, but for the folder of the data."""
    config = planned.config
    words = [f"mandheling train --model {config.model} --dataset {config.dataset} --data DIR"]
    plan = config.plan if planned.rule is None else f"{planned.name}.plan.json"
    words.append(f"--plan {plan} --profile {config.profile} --device {config.device}")
    words.append(f"--epochs {config.epochs} --batch {config.batch} --rate {config.rate}")
    words.append(f"--seed {config.seed}")
    if config.validation is not None:
        words.append(f"--validation {config.validation}")
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
    """Test accuracy by run: mean over seeds and their deviation, difference to FP32; rescaling.

    ``worst end`` is the validation accuracy of the worst seed after the last epoch: a run that
    broke down shows there, though the epoch tested is an earlier one. ``skipped`` is the share of
    rescalings without a scan after the first epoch, mean over seeds; ``clipped`` the share of
    values that were clipped, in the worst epoch and seed.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        model, _, rest = name.split("-", 2)
        groups.setdefault(f"{model} {rest}", []).append(run)
    lines = [
        f"{'run':28s} {'seeds':>5s} {'test %':>7s} {'dev.':>5s} {'- FP32':>7s} "
        f"{'worst end':>9s} {'skipped %':>9s} {'clipped':>8s}"
    ]
    for name, members in groups.items():
        model = name.split()[0]
        tested = [100 * run["test"]["accuracy"] for run in members]
        spread = f"{stdev(tested):5.2f}" if len(tested) > 1 else f"{'-':>5s}"
        base = groups.get(f"{model} fp32")
        gap = f"{'-':>7s}"
        if base:
            gap = f"{mean(tested) - mean(100 * r['test']['accuracy'] for r in base):+7.2f}"
        ends = min(100 * run["epochs"][-1]["validation_accuracy"] for run in members)
        skipped = [r["skipped_after_first_epoch"] for r in members]
        met = [epoch["rescale"] for r in members for epoch in r["epochs"] if epoch["rescale"]]
        line = f"{name:28s} {len(members):5d} {mean(tested):7.2f} {spread} {gap} {ends:9.2f}"
        if skipped[0] is not None:
            worst = max(rescale["saturated_share"] for rescale in met)
            line += f" {100 * mean(skipped):9.1f} {worst:8.1e}"
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


def pairs_table(found: dict[str, Any]) -> str:
    """Each pair: points of test accuracy with their interval, and ratios of time and energy."""
    lines = [
        f"{'adaptive':14s} {'- every step':>20s} {'- FP32':>20s} {'time':>7s} {'energy':>7s}",
    ]
    for stem, pair in found.items():
        line = f"{stem:14s}"
        for name in ("adaptive_minus_every", "adaptive_minus_fp32"):
            gap = pair.get(name)
            text = f"{gap['points']:+.2f} ({gap['low']:+.2f}, {gap['high']:+.2f})" if gap else "-"
            line += f" {text:>20s}"
        race = pair.get("to_accuracy")
        for name in ("time_ratio", "energy_ratio"):
            text = f"{race[name]:.2f} x" if race else "-"
            line += f" {text:>7s}"
        lines.append(line)
    return "\n".join(lines)


def shown(content: dict[str, Any]) -> str:
    """Both tables of what ``results/accuracy.json`` holds."""
    runs = content.get("runs", {})
    return f"{table(runs)}\n\n{pairs_table(comparisons(runs))}" if runs else "no runs yet"


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


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, keep the figures, print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.accuracy", description=__doc__)
    parser.add_argument("--cifar10", default="data/cifar10", help="folder of CIFAR-10's files")
    parser.add_argument("--mnist", default="data/mnist", help="folder of MNIST's t10k files")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="folder of runs")
    parser.add_argument("--only", default="", help="only runs whose names contain this")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    parser.add_argument("--table", action="store_true", help="print what is kept; train nothing")
    options = parser.parse_args(arguments)
    planned = [p for s in studies(options.cifar10, options.mnist).values() for p in runs_of(s)]
    chosen = [] if options.table else [p for p in planned if options.only in p.name]
    if not options.table and not chosen:
        parser.error(f"--only is {options.only!r}; give a part of a name like {planned[0].name}")
    for one in chosen:
        _run(one, options.runs, options.threads)
    print(shown(read_result(RESULT)))


def _run(planned: Planned, folder: Path, threads: int | None) -> None:
    """Train one run, or take what it gave before; write its figures beside the others'."""
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(with_rule(planned, folder), threads=threads)
    print(planned.name, flush=True)
    result = train(config, folder / planned.name)
    content = read_result(RESULT)
    runs = {**content.get("runs", {}), planned.name: figures(planned, result)}
    write_result(RESULT, {"runs": runs, "comparisons": comparisons(runs)})


if __name__ == "__main__":
    main()
