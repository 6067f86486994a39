"""The demo: the published set-up, six networks at batch 64 on a Snapdragon 865, in one page.

Networks are compared in worker processes. Results do not depend on their number: each network is
computed from the same inputs wherever it runs, and the order of the results is fixed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.policies.recipes import BASELINES

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.compare import Comparison, Row

MODELS = ("vgg11", "vgg16", "vgg19", "resnet18", "resnet34", "inception-v3")
DEVICE = "snapdragon-865"
BATCH = 64
WATCH_S = 0.25
"""How often a worker looks whether its parent is still there, seconds."""
WORLDS = 1024
"""Worlds behind the headline intervals: 51 lie beyond either end, which then moves by a few percent
from one set of worlds to another."""
SHOWN = "vgg16"
"""Network whose waterfall is shown."""
COLUMNS = {
    "tflite-fp32": "tflite",
    "mnn-fp32": "mnn",
    "mnn-fp32-gpu": "gpu",
    "mnn-int8": "int8",
    "dsp-int8": "dsp",
}
"""Names of plans in the table's head."""
LEGEND = (
    "tflite, mnn: FP32 on four big cores; gpu: MNN's FP32 on the GPU; int8: MNN's INT8 on four big "
    "cores; dsp: INT8 offload without any technique. speed-up: mandheling against mnn."
)
EVIDENCE_NOTE = (
    "derived: by arithmetic or a fit from measured rows, those of the calibration bundles among "
    "them; what a kernel library takes from a fit of another one is assumed. A time that several "
    "constants multiply into counts for the weakest of them."
)
PLANS = (*BASELINES, "dsp-int8", "mandheling")
REFERENCES = ("mnn-fp32", "tflite-fp32")
PAPER_TIME = 5.5
PAPER_ENERGY = 8.9
"""Average gains in the abstract of Mandheling (MobiCom 2022, arXiv 2206.07509)."""


@dataclass(frozen=True, slots=True)
class Result:
    """One network's comparison and the hash of its training graph."""

    model: str
    graph_hash: str
    comparison: Comparison


def compare_one(model: str, seed: int, device: str = DEVICE, batch: int = BATCH) -> Result:
    """Compare the demo's plans for one network; runs in a worker."""
    from cost_models.device import load_device
    from experiments.compare import compare
    from sim.autodiff import training_graph
    from sim.zoo import load_model

    graph = training_graph(load_model(model, batch))
    found = compare(
        graph,
        load_device(device),
        names=PLANS,
        reference=REFERENCES[0],
        with_waterfalls=model == SHOWN,
        seed=seed,
        worlds=WORLDS,
    )
    return Result(model, graph.hash(), found)


def compare_all(
    models: Sequence[str],
    *,
    seed: int = 0,
    workers: int = 2,
    say: Callable[[str], None] = print,
    device: str = DEVICE,
    batch: int = BATCH,
) -> list[Result]:
    """Compare each network in ``workers`` processes; results in the order of ``models``.

    Parameters
    ----------
    say
        Told a line when a network is done.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, leave_with, (os.getpid(),)) as pool:
        try:
            with _interrupts_ignored():  # workers start here and inherit it: the parent ends them
                futures: dict[Future[Result], str] = {
                    pool.submit(compare_one, model, seed, device, batch): model
                    for model in reversed(models)  # the largest come last
                }
            done = {}
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                say(f"compared {futures[future]} ({len(done)} of {len(models)})")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    return [done[model] for model in models]


def leave_with(parent: int) -> None:
    """Make this process end soon after its parent, even one that is killed without a word.

    Parameters
    ----------
    parent
        Process id of the parent; orphans get another one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)  # nobody is left to whom cleaning up or an exit code would matter

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C within; only a main thread may set a signal's handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, slots=True)
class Gain:
    """Geometric mean of a ratio over the networks, and its 90 % interval over common worlds."""

    mean: float
    interval: tuple[float, float]


def gains(results: Sequence[Result], reference: str) -> tuple[Gain, Gain]:
    """Mandheling's gain over a baseline in time and in energy.

    All networks and plans are in the same worlds: a constant that is worse than stated is worse
    for all of them at once.
    """
    from experiments.compare import MANDHELING

    pairs = [(r.comparison.row(reference), r.comparison.row(MANDHELING)) for r in results]
    return (
        _gain(
            [base.time_ns / ours.time_ns for base, ours in pairs],
            [(base.worlds.times_ns, ours.worlds.times_ns) for base, ours in pairs],
        ),
        _gain(
            [base.energy_pj / ours.energy_pj for base, ours in pairs],
            [(base.worlds.energies_pj, ours.worlds.energies_pj) for base, ours in pairs],
        ),
    )


def _gain(nominal: Sequence[float], worlds: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Gain:
    from experiments.compare import geometric_mean, ratios
    from sim.uncertainty import interval

    by_network = [ratios(base, ours) for base, ours in worlds]
    by_world = [geometric_mean(values) for values in zip(*by_network, strict=True)]
    return Gain(geometric_mean(nominal), interval(by_world))


def summary_document(results: Sequence[Result]) -> dict[str, Any]:
    """Return the demo's headline numbers for JSON."""
    found = {reference: gains(results, reference) for reference in REFERENCES}
    return {
        "note": "predicted, not measured",
        "device": results[0].comparison.device,
        "batch": results[0].comparison.batch,
        "geometric_means": {
            reference: {
                "time": time.mean,
                "time_interval": list(time.interval),
                "energy": energy.mean,
                "energy_interval": list(energy.interval),
            }
            for reference, (time, energy) in found.items()
        },
        "paper": {
            "time": PAPER_TIME,
            "energy": PAPER_ENERGY,
            "what": "average over its devices, models and baselines",
        },
    }


def print_story(console: Console, results: Sequence[Result]) -> None:
    """Print the whole demo."""
    from experiments.compare import MANDHELING
    from experiments.render import mib, show, span, table
    from experiments.render_compare import calibrations_note, waterfall_table

    first = results[0].comparison
    title = f"Training on {first.device} at batch {first.batch}, ms per step: predicted"
    heads = ("model", *(_column(name) for name in PLANS), "speed-up", "90 %")
    rows = [_times(result) for result in results]
    show(console, table(f"{title}, not measured", heads, rows), LEGEND, *_memory_note(results))
    cells = []
    for reference in REFERENCES:
        each = [(f"{g.mean:.2f} x", span(g.interval, 2)) for g in gains(results, reference)]
        cells.append((f"against {reference}", *each[0], *each[1]))
    cells.append(("paper", f"{PAPER_TIME:.1f} x", "", f"{PAPER_ENERGY:.1f} x", ""))
    columns = ("", "time", "90 %", "energy", "90 %")
    show(
        console,
        table("Mandheling's gain, geometric mean over the networks", columns, cells),
        "90 %: all constants vary, by what their calibrations leave open or their evidence allows. "
        "paper: average over its devices, models and baselines (abstract, arXiv 2206.07509).",
    )
    for result in results:
        if result.comparison.waterfalls:
            show(console, f"{result.model}:", waterfall_table(result.comparison.waterfalls))
    ours = [(result.model, result.comparison.row(MANDHELING)) for result in results]
    show(console, _time_table(ours), _evidence_table(results), EVIDENCE_NOTE)
    notes = list(dict.fromkeys(note for result in results for note in result.comparison.notes))
    if notes:
        show(console, calibrations_note(notes))
    budget = mib(first.budget_bytes)
    show(console, f"Memory budget for training on this device: {budget} MiB.")


def _column(plan: str) -> str:
    """Return a plan's name in few letters."""
    return COLUMNS.get(plan, plan)


def _times(result: Result) -> tuple[str, ...]:
    from experiments.compare import MANDHELING
    from experiments.render import ms, number, span

    found = {row.name: row for row in result.comparison.rows}
    cells = [
        ms(found[name].time_ns) + ("!" if found[name].over_budget else "") if name in found else "-"
        for name in PLANS
    ]
    ours = found[MANDHELING]
    return (result.model, *cells, number(ours.speedup, 3), span(ours.speedup_interval, 2))


def _memory_note(results: Sequence[Result]) -> list[str]:
    from experiments.render import mib

    over = [
        f"  {result.model}: "
        + ", ".join(
            f"{_column(row.name)} {mib(row.peak_bytes)}"
            for row in result.comparison.rows
            if row.over_budget
        )
        for result in results
        if any(row.over_budget for row in result.comparison.rows)
    ]
    budget = mib(results[0].comparison.budget_bytes)
    head = f"! needs more than the memory budget of {budget} MiB and would not run (MiB):"
    return ["\n".join([head, *over])] if over else []


def _time_table(rows: Sequence[tuple[str, Row]]) -> Any:
    from experiments.render import percent, table
    from sim.taskgraph import CATEGORIES

    cells = [
        (model, *(percent(row.breakdown_ns[c] / row.time_ns) for c in CATEGORIES))
        for model, row in rows
    ]
    return table("Where mandheling's time goes, %", ("model", *CATEGORIES), cells)


def _evidence_table(results: Sequence[Result]) -> Any:
    from experiments.render import table
    from experiments.render_compare import shares

    cells = []
    for result in results:
        found = {row.name: shares(row.evidence) for row in result.comparison.rows}
        cells.append((result.model, *(found.get(name, "-") for name in PLANS)))
    title = "What each time rests on, %: measured/published/derived/assumed"
    return table(title, ("model", *(_column(name) for name in PLANS)), cells)
