"""Measuring plans on this machine: which, and what is kept of each.

A sample is one plan of one network. Its raw values are the ends of all rows (ns from the
beginning of the step) of :data:`KEPT` steps, those whose makespans are nearest to the median; its
conditions hold the makespans of every measured step and what the rescale rules chose in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import sleep

from cost_models.cost import Rescaling
from cost_models.device import load_device
from cost_models.samples import Json, Sample
from experiments.host.drawn import drawn_plan
from experiments.host.networks import DRAWN, drawn_network
from hw_bridge.backends import PlanJob, reference
from hw_bridge.host.session import HostSession
from sim.autodiff import training_graph
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.numeric.executor import StepResult
from sim.zoo import load_model

DEVICE = "snapdragon-865"
"""The phone whose units and subgraphs the plans have."""
RATE_Q24 = 256
"""Learning rate of 2^-16: images are noise, and training on them must not diverge."""
WARM, STEPS, KEPT = 4, 12, 2
"""Steps before measuring, measured steps, and steps of which every row is kept."""
AGAIN = "/again"
"""Ends the key of the second visit to a predicted plan: steps of one visit are more alike than
those of two, so only two tell how much a measured step time is worth."""
BACKEND, KIND, UNIT = "host", "plan", "ns"
"""What every sample is of, and the unit of its raw values."""
PAUSE_S = 0.3
"""Between plans, so that others get their share of the cores."""
LETTER: dict[Rescaling, str] = {"dynamic": "d", "fused": "f", "inline": "i", "none": "n"}
MODE = {letter: mode for mode, letter in LETTER.items()}


@dataclass(frozen=True, slots=True)
class Network:
    """A network at a size: ``plans`` are the seeds of the plans that are drawn for it."""

    model: str
    batch: int
    image: int
    plans: range

    def graph(self) -> TrainingGraph:
        """Its training graph."""
        if self.model.startswith(DRAWN):
            seed = int(self.model.removeprefix(DRAWN))
            return training_graph(drawn_network(seed, self.batch, self.image))
        return training_graph(load_model(self.model, self.batch, self.image))


PREDICTED = (
    Network("lenet", 32, 28, range(22)),
    Network("vgg11", 8, 32, range(22)),
    Network("resnet18", 4, 32, range(22)),
)
"""Networks whose step times are predicted; nothing measured of them is fitted on."""

_FEW = range(100, 105)
_DRAWN_SIZES = (
    (32, 24), (16, 32), (64, 16), (32, 32), (8, 24), (48, 20), (24, 40),
    (64, 24), (32, 20), (16, 28), (40, 28), (96, 16), (12, 36), (64, 32),
)  # fmt: skip
"""Batch and image of the drawn networks, by seed."""
CALIBRATION = (
    Network("vgg13", 4, 32, _FEW),
    Network("resnet34", 2, 32, _FEW),
    Network("resnet50", 2, 32, _FEW[:3]),
    Network("googlenet", 2, 64, _FEW),
    Network("inception-v3", 2, 96, _FEW[:2]),
    Network("mobilenet-v1", 4, 64, _FEW),
    Network("mobilenet-v2", 4, 64, _FEW),
    Network("squeezenet1.0", 16, 32, _FEW),
    Network("squeezenet1.1", 4, 64, _FEW),
    Network("vgg-small-7", 16, 32, _FEW[:3]),
    Network("vgg-small-8", 64, 8, _FEW),
    Network("vgg-small-9", 32, 16, _FEW),
    *(
        Network(f"{DRAWN}{seed}", batch, image, _FEW)
        for seed, (batch, image) in enumerate(_DRAWN_SIZES)
    ),
)
"""Networks whose rows the laws are fitted on."""


def wanted(predicted: bool) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Keys and configurations of all visits to plans, to predict or to calibrate with."""
    use = "predict" if predicted else "calibrate"
    for one in PREDICTED if predicted else CALIBRATION:
        for seed in one.plans:
            key = f"{use}/{one.model}/{one.batch}x{one.image}/{seed}"
            config: dict[str, Json] = {
                "use": use,
                "model": one.model,
                "batch": one.batch,
                "image": one.image,
                "plan": seed,
            }
            yield key, config
            if predicted:
                yield key + AGAIN, {**config, "again": True}


def network_of(config: Mapping[str, Json]) -> Network:
    """The network of a sample, with its one plan."""
    seed = int(str(config["plan"]))
    batch, image = (int(str(config[name])) for name in ("batch", "image"))
    return Network(str(config["model"]), batch, image, range(seed, seed + 1))


def measure(key: str, config: Mapping[str, Json]) -> Sample:
    """Run one plan, and compare its numbers with the numeric executor's where it is predicted."""
    network, device = network_of(config), load_device(DEVICE)
    graph = network.graph()
    seed = network.plans[0]
    job = PlanJob(
        graph, drawn_plan(graph, device, seed), device,
        steps=WARM + STEPS, seed=seed, rate_q24=RATE_Q24,
    )  # fmt: skip
    expected = reference(job) if config["use"] == "predict" else None
    sleep(PAUSE_S)
    return _run(key, config, job, expected)


def _run(
    key: str,
    config: Mapping[str, Json],
    job: PlanJob,
    expected: tuple[tuple[StepResult, ...], str] | None,
) -> Sample:
    ready = lowering(job.graph, job.plan, job.device)
    ends: list[list[int]] = []
    chosen: list[tuple[str, str]] = []
    results = []
    with HostSession(
        job.graph, job.plan, job.device, profile=job.profile, seed=job.seed
    ) as session:
        for step in range(job.steps):
            modes = ready.modes(session.state)
            misses = ready.reuse(session.state.prepared).misses
            images, labels = job.batch(step)
            done = session.step(images, labels, rate_q24=job.rate_q24)
            assert done.timeline is not None
            results.append(done.result)
            if step >= WARM:
                ends.append(done.timeline.end_ns.tolist())
                chosen.append((letters(modes), "".join("01"[miss] for miss in misses)))
        digest = session.executor.parameters.sha256()
    makespans = [max(one) for one in ends]
    kept = nearest(makespans)
    kinds = sorted(set(chosen))
    conditions: dict[str, Json] = {
        "makespans_ns": list(makespans),
        "kinds": [list(kind) for kind in kinds],
        "kind": [kinds.index(kind) for kind in chosen],
        "kept": [*kept],
    }
    if expected is not None:
        conditions["equal"] = (tuple(results), digest) == expected
    raw = tuple(value for k in kept for value in ends[k])
    return Sample(key, KIND, UNIT, raw, config, conditions)


def nearest(makespans_ns: Sequence[int]) -> list[int]:
    """Return the :data:`KEPT` steps whose makespans are nearest to the median, nearest first.

    >>> nearest([10, 30, 21, 20, 22])
    [2, 3]
    """
    middle = median(makespans_ns)
    steps = range(len(makespans_ns))
    return sorted(steps, key=lambda k: (abs(makespans_ns[k] - middle), k))[:KEPT]


def letters(modes: Mapping[str, Rescaling]) -> str:
    """Modes of a step, a letter for each rescaled tensor in the order of their names."""
    return "".join(LETTER[modes[subject]] for subject in sorted(modes))


def modes_of(text: str, subjects: Iterable[str]) -> dict[str, Rescaling]:
    """Return what :func:`letters` was given."""
    return {s: MODE[letter] for s, letter in zip(sorted(subjects), text, strict=True)}
