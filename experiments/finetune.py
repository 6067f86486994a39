"""Fine-tuning with filtered gradients: accuracy against operations and saved memory.

``python -m experiments.finetune --cifar10 DIR`` pre-trains a network on the ``source`` classes of
CIFAR-10, then fine-tunes its last layers on the ``target`` classes, which share two classes with
the source but no image: with exact gradients, with patches of 2 and of 4, in FP32 and in INT8, with
several seeds. It goes on where it was stopped, keeps small figures of each finished run in
``results/finetune.json``, and prints a table and the comparisons. Cases that were also tuned at
another rate (``--tune-rate``) count at the one that lowered the training loss most: test images
choose nothing. ``--table`` prints what is kept
and trains nothing; ``--plan-only`` shows the runs with their work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.finetune_cases import CASES, MOST_SEEDS, Case, comparisons, shown
from experiments.reproduce.gradient_filtering.counts import gradient_operations
from experiments.results import FOLDER, read_result, versions, write_result
from experiments.told import STOPPED, one_line_errors
from experiments.training.config import ConfigError, TrainConfig, check_integer
from experiments.training.loop import train
from kernels.conv import Conv2d
from kernels.operators import Role
from sim import build_plan, load_device, load_model, training_graph
from sim.aspects.backward import patch_of
from sim.autodiff import before_last
from sim.files import write_atomic
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Plan
from sim.policies import Filtered

RESULT = FOLDER / "finetune.json"
COMMAND = "python -m experiments.finetune --cifar10 DIR"
DEVICE = "snapdragon-865"
RECIPES = {"fp32": "mnn-fp32", "int8": "mandheling"}
GRADIENTS = (Role.INPUT_GRAD, Role.WEIGHT_GRAD)
TUNE_RATE = 0.01
"""Rate of runs whose names tell none."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long everything trains: what the runs have in common.

    The defaults take about two and a half hours of one core with AVX-512 (VGG-11: half an hour to
    pre-train, 40 minutes for each seed); ResNet-18 about four times as long. ``dataset`` and
    ``sizes`` are for trials on built-in images.

    Raises
    ------
    ConfigError
        A number of epochs out of range.
    """

    model: str = "vgg11"
    pretrain_epochs: int = 5
    epochs: int = 4
    seeds: int = 3
    batch: int = 64
    rate: float = 0.03
    tune_rate: float = TUNE_RATE
    dataset: str = "cifar10"
    sizes: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        # here, not where they are used: the long pre-training comes first
        check_integer(self, "pretrain_epochs", 1, 100_000)
        check_integer(self, "epochs", 1, 100_000)


def pretraining(budget: Budget, data: str | None) -> TrainConfig:
    """Settings of the run on the source classes."""
    return TrainConfig(
        budget.model,
        budget.dataset,
        data=data,
        plan=RECIPES["fp32"],
        device=DEVICE,
        epochs=budget.pretrain_epochs,
        batch=budget.batch,
        rate=budget.rate,
        sizes=budget.sizes,
        engine="none",
        part="source",
    )


def graph_of(case: Case, budget: Budget) -> TrainingGraph:
    """The training graph with the case's layers trained."""
    model = load_model(budget.model, batch=budget.batch)
    return training_graph(model, frozen=before_last(model, case.last))


def plan_of(case: Case, graph: TrainingGraph) -> Plan:
    """The recipe of the precision with the case's filter; a small map is one patch."""
    policies = () if case.patch == 1 else (Filtered(case.patch),)
    plan = build_plan(RECIPES[case.precision], graph, load_device(DEVICE), policies)
    return replace(plan, name=case.name)


def tuning(case: Case, seed: int, budget: Budget, data: str | None, folder: Path) -> TrainConfig:
    """Settings of one fine-tuning, with its plan written beside the runs."""
    path = folder / f"{case.name}.plan.json"
    text = plan_of(case, graph_of(case, budget)).to_json()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    return replace(
        pretraining(budget, data),
        plan=str(path),
        epochs=budget.epochs,
        rate=budget.tune_rate,
        seed=seed,
        last=case.last,
        start=str(folder / "pretrained"),
        part="target",
        engine="compiled",
        validation=0,
    )


def work_of(case: Case, budget: Budget) -> dict[str, int]:
    """Operations and saved bytes of the backward pass of one sample.

    Operations as the published tables count them, of convolutions alone.
    """
    graph = graph_of(case, replace(budget, batch=1))
    plan = plan_of(replace(case, precision="fp32"), graph)
    draft = draft_before("precision", graph, plan, load_device(DEVICE))
    rules = plan.aspect("backward")
    operations = saved = 0
    for node in graph.nodes:
        if isinstance(node.op, Conv2d) and node.role in GRADIENTS:
            patch = patch_of(rules.get(node.layer, "exact"))
            operations += gradient_operations(node.op, node.role, patch)
            if node.role is Role.WEIGHT_GRAD:
                saved += draft.buffers[draft.first(node.name).reads[0]].bytes
    return {
        "operations": operations,
        "saved_bytes": saved // (4 if case.precision == "int8" else 1),
    }


def repeats(budget: Budget, runs: Iterable[str]) -> str:
    """The command that trains with this budget, and what it is given to tune at other rates."""
    command = (
        f"{COMMAND} --model {budget.model} --pretrain-epochs {budget.pretrain_epochs} "
        f"--epochs {budget.epochs} --seeds {budget.seeds}"
    )
    others: dict[str, list[str]] = {}
    for name in runs:
        case, _, rate = name.rpartition("-seed")[0].partition("@")
        if rate and case not in others.setdefault(rate, []):
            others[rate].append(case)
    for rate, cases in sorted(others.items()):
        command += f"; also with --tune-rate {rate} --cases {','.join(cases)}"
    return command


def run_all(
    budget: Budget,
    data: str | None,
    folder: Path,
    result: Path = RESULT,
    cases: Sequence[Case] = CASES,
    threads: int | None = None,
) -> dict[str, Any]:
    """Train what is missing and keep its figures; return all that is kept.

    Raises
    ------
    ConfigError
        ``folder`` or ``result`` holds runs of another budget, or a rate is out of range.
    GraphError
        The network has fewer convolutions than a case trains.
    """
    names = (name for name in budget.__dataclass_fields__ if name != "tune_rate")  # runs tell it
    made_with = {name: getattr(budget, name) for name in names}
    common = {name: value for name, value in made_with.items() if name not in ("seeds", "sizes")}
    before = read_result(result).get("budget", common)
    if any(before.get(name) != value for name, value in common.items()):
        raise ConfigError(
            f"{result} holds runs of another budget ({before}); remove it, or repeat that budget"
        )
    # what cannot be fine-tuned is refused before the long pre-training
    replace(pretraining(budget, data), rate=budget.tune_rate)
    for case in cases:
        graph_of(case, budget)
    folder.mkdir(parents=True, exist_ok=True)
    print("pretrained", flush=True)
    first = train(replace(pretraining(budget, data), threads=threads), folder / "pretrained")
    source = {"accuracy": first["test"]["accuracy"], "wall_ms": first["wall_ms"]}
    for seed in range(budget.seeds):
        for case in cases:
            rate = "" if budget.tune_rate == TUNE_RATE else f"@{budget.tune_rate:g}"
            name = f"{case.name}{rate}-seed{seed}"
            print(name, flush=True)
            config = replace(tuning(case, seed, budget, data, folder), threads=threads)
            made = train(config, folder / name)
            content = read_result(result)
            runs = {**content.get("runs", {}), name: _figures(made)}
            work = {**content.get("work", {}), case.name: work_of(case, budget)}
            write_result(
                result,
                {"runs": runs, "work": work, "budget": made_with, "source": source}
                | {"comparisons": comparisons({"runs": runs})}
                | {"command": repeats(budget, runs), "versions": versions()},
            )
    return read_result(result)


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        "accuracy": result["test"]["accuracy"],
        "images": result["test"]["images"],
        "losses": [row["loss"] for row in result["epochs"]],
        "epochs": len(result["epochs"]),
        "energy_pj": result["epochs"][-1]["energy_pj"],
        "time_ns": result["epochs"][-1]["time_ns"],
        "weights_sha256": result["weights_sha256"],
        "wall_ms": result["wall_ms"],
    }


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, keep the figures, print the table."""
    default = Budget()
    parser = argparse.ArgumentParser(prog="python -m experiments.finetune", description=__doc__)
    parser.add_argument("--cifar10", default="data/cifar10", help="folder of CIFAR-10's files")
    parser.add_argument("--runs", type=Path, default=Path("runs/finetune"), help="folder of runs")
    parser.add_argument("--model", default=default.model, help="a model without batch norm")
    parser.add_argument("--pretrain-epochs", type=int, default=default.pretrain_epochs)
    parser.add_argument("--epochs", type=int, default=default.epochs, help="of each fine-tuning")
    parser.add_argument("--seeds", type=int, default=default.seeds, help=f"1 to {MOST_SEEDS}")
    parser.add_argument("--tune-rate", type=float, default=default.tune_rate, help="at its peak")
    parser.add_argument(
        "--cases", default=",".join(case.name for case in CASES), help="names (all)"
    )
    parser.add_argument("--result", type=Path, default=RESULT, help="file of the figures")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    parser.add_argument("--table", action="store_true", help="print what is kept; train nothing")
    parser.add_argument("--plan-only", action="store_true", help="print the runs; train nothing")
    options = parser.parse_args(arguments)
    if not 1 <= options.seeds <= MOST_SEEDS:
        parser.error(f"--seeds is {options.seeds}; allowed: 1 to {MOST_SEEDS}")
    budget = Budget(
        options.model,
        options.pretrain_epochs,
        options.epochs,
        options.seeds,
        tune_rate=options.tune_rate,
    )
    cases = _cases(options.cases)
    if options.plan_only:
        for case in cases:
            work = work_of(case, budget)
            print(f"{case.name:18s} {work['operations']:>13,} {work['saved_bytes']:>9,}")
        return
    if not options.table:
        run_all(
            budget, options.cifar10, options.runs, options.result, cases, threads=options.threads
        )
    print(shown(read_result(options.result)))


def _cases(names: str) -> tuple[Case, ...]:
    known = {case.name: case for case in CASES}
    for name in names.split(","):
        if name not in known:
            raise ConfigError(f"cases: {name[:40]!r}; choose of {', '.join(known)}")
    return tuple(known[name] for name in names.split(","))


if __name__ == "__main__":
    main()
