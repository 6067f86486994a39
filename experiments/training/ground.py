"""What a run stands on: graph, plan, device and data sets, loaded and checked together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cost_models.device import Device
from experiments.cli_common import plan_sha256
from experiments.datasets.dataset import Dataset
from experiments.datasets.loading import load_splits
from experiments.datasets.pipeline import Batches
from experiments.datasets.splits import class_part, split_validation
from experiments.loading import load_built, load_device, load_graph
from experiments.training.config import FINE_TUNING, INDIFFERENT, ConfigError, TrainConfig
from experiments.training.schedule import Schedule, rate_to_q24
from experiments.training.start import Weights, start_weights
from kernels.gemm import lacking
from kernels.profiles import PROFILES, UpdateRule
from sim.autodiff import LOSS
from sim.graph import TrainingGraph
from sim.model import INPUT
from sim.numeric.session import TrainingSession
from sim.numeric.trained import Hyper
from sim.plan import Plan
from sim.state import SCENARIOS

VALIDATION_SPLIT_SEED = 0
"""The same images for every seed of a run, so that runs are chosen by the same measure."""
AUGMENTED = {"cifar10": ("crop", "flip")}
"""Data sets that are augmented unless told otherwise."""
RATE = 0.02
"""Peak learning rate where none is given: what FP32 and the sandbox's INT8 both take without
diverging on nets that have no batch norm (LeNet, VGG). NITI's profiles know no rate."""
ENGINES = ("compiled", "simpy", "none")


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A configuration with all that it names.

    Attributes
    ----------
    given, config
        The settings as given, and with every default filled in.
    graph, plan, device
        What is trained, how, and on which phone it is simulated.
    train, validation, test
        Data sets in the shape of the graph; ``validation`` is None where none is held out.
    batches
        Batches of an epoch.
    schedule
        Rates of all steps.
    identity
        All that the result follows from. Two runs of one identity give the same bits on one
        kind of CPU, and on any where no layer is computed in FP32.
    """

    given: TrainConfig
    config: TrainConfig
    graph: TrainingGraph
    plan: Plan
    device: Device
    train: Dataset
    validation: Dataset | None
    test: Dataset
    batches: int
    schedule: Schedule
    identity: dict[str, Any]
    start: Weights | None = None
    """Weights that the run begins with, where they are not drawn."""

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that the result depends on, with their defaults filled in."""
        return _settings(self.config)

    def session(self) -> TrainingSession:
        """Return a session before its first step."""
        config = self.config
        session = TrainingSession(
            self.graph,
            self.plan,
            self.device,
            profile=config.profile,
            hyper=Hyper(config.momentum, config.weight_decay),
            seed=config.seed,
            engine=config.engine,
            scenario=config.scenario,
            threads=config.threads,
            backend=config.backend,
        )
        if self.start is not None:
            self.start.give(session.executor.parameters)
        return session

    def epoch(self, epoch: int, first: int = 0) -> Batches:
        """Return the training batches of an epoch from batch ``first`` on."""
        config = self.config
        assert config.augment is not None
        return Batches(
            self.train, config.batch, config.seed, epoch, config.augment, True, first=first
        )

    def in_order(self, dataset: Dataset) -> Batches:
        """Return a data set in batches as it is: in its order, without augmentation, whole."""
        batch = min(self.config.batch, len(dataset))
        return Batches(dataset, batch, 0, 0, (), False, shuffle=False)


def prepare(config: TrainConfig) -> Ground:
    """Load what a configuration names.

    Raises
    ------
    ConfigError
        A name is not known, the model has fewer outputs than the data set classes, or nothing is
        left to train on.
    ValueError
        From the loaders of models, plans, devices and data sets, each telling its own file.
    """
    check_names(config)
    graph = load_graph(config.model, config.batch, last=config.last)
    _, channels, height, width = graph.tensor(INPUT).shape
    train, test = load_splits(
        config.dataset,
        config.data,
        shape=(height, width, channels),
        split_of_test=config.split_of_test,
        sizes=config.sizes,
    )
    if config.part is not None:
        train = class_part(train, config.part, shared=False)
        test = class_part(test, config.part)
    graph = wide_enough(graph, config.model, len(train.classes), config.last)
    device = load_device(config.device)
    plan = load_built(config.plan, graph, device).plan
    check_rate(config, plan)
    config_now = _filled(config, train)
    assert config_now.validation is not None
    assert config_now.rate is not None
    validation = None
    if config_now.validation >= len(train):
        raise ConfigError(
            f"validation: {config_now.validation}; of the {len(train)} training images of "
            f"{config.dataset} give 0 to {len(train) - 1}"
        )
    if config_now.validation:
        train, validation = split_validation(train, config_now.validation, VALIDATION_SPLIT_SEED)
    batches = len(Batches(train, config.batch, config.seed, 0))
    steps = config.epochs * batches
    schedule = Schedule(config.schedule, rate_to_q24(config_now.rate), steps, config.warmup)
    identity = identity_of(config_now, graph, plan, device, (train, test))
    start = None
    if config.start is not None:
        start = start_weights(Path(config.start))
        identity |= {"start_sha256": start.sha256()}
    return Ground(
        given=config,
        config=config_now,
        graph=graph,
        plan=plan,
        device=device,
        train=train,
        validation=validation,
        test=test,
        batches=batches,
        schedule=schedule,
        identity=identity,
        start=start,
    )


def wide_enough(
    graph: TrainingGraph, model: str, classes: int, last: int | None = None
) -> TrainingGraph:
    """Give a model of the zoo as many outputs as there are classes, if it has fewer.

    Raises
    ------
    ConfigError
        An imported model has too few outputs.
    """
    outputs = graph.tensor(graph.node(LOSS).inputs[0]).shape[1]
    if classes <= outputs:
        return graph
    if model.endswith(".onnx"):
        raise ConfigError(
            f"model: {model} has {outputs} outputs and the data set {classes} classes; export it "
            "with as many, or choose another"
        )
    return load_graph(model, graph.batch, classes=classes, last=last)


def check_rate(config: TrainConfig, plan: Plan) -> None:
    """Refuse a rate that wide integer weights do not take, before it is reached.

    Raises
    ------
    ConfigError
        The plan has INT8 layers with wide weights, and the rate is above 1.
    """
    wide = PROFILES[config.profile].update is UpdateRule.WIDE
    if config.rate and config.rate > 1 and wide and "int8" in plan.aspect("precision").values():
        raise ConfigError(
            f"rate: {config.rate:g}; INT8 layers of profile {config.profile} take up to 1: lower it"
        )


def check_names(config: TrainConfig) -> None:
    """Refuse what is unknown before anything is loaded, which may take seconds."""
    for name, allowed in (
        ("engine", ENGINES),
        ("scenario", tuple(SCENARIOS)),
        ("profile", tuple(PROFILES)),
    ):
        value = getattr(config, name)
        if value not in allowed:
            raise ConfigError(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    if config.backend is not None and (lacks := lacking(config.backend)) is not None:
        raise ConfigError(f"backend: {config.backend!r} needs {lacks}, which this CPU lacks")
    if config.engine == "none" and SCENARIOS[config.scenario].thermal:
        raise ConfigError(
            f"scenario: {config.scenario} follows the energy of each step, and engine none times "
            "none; choose another engine"
        )


def _filled(config: TrainConfig, train: Dataset) -> TrainConfig:
    """Return the configuration with its defaults filled in."""
    return replace(
        config,
        rate=RATE if config.rate is None else config.rate,
        augment=AUGMENTED.get(config.dataset, ()) if config.augment is None else config.augment,
        validation=len(train) // 10 if config.validation is None else config.validation,
    )


def identity_of(
    config: TrainConfig,
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    splits: tuple[Dataset, Dataset],
) -> dict[str, Any]:
    """Everything that a run's result follows from: settings, and digests of what they name.

    The version of NumPy is part of it, since the initial weights come from NumPy's generator,
    whose stream is promised within one version only (NEP 19).
    """
    train, test = splits
    return {
        **_settings(config),
        "model": graph.name,
        "plan": plan.name,
        "device": device.name,
        "graph_sha256": graph.hash(),
        "plan_sha256": plan_sha256(plan),
        "device_sha256": device.sha256,
        "train_sha256": train.digest(),
        "test_sha256": test.digest(),
        "version": version("mandheling-sandbox"),
        "numpy": version("numpy"),
    }


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Settings of a fine-tuning are told where they are set: other runs know nothing of them."""
    found = {name: v for name, v in config.as_json().items() if name not in INDIFFERENT}
    unset = [name for name in FINE_TUNING if found[name] is None]
    return {name: v for name, v in found.items() if name not in (*unset, "start")}
