"""What a federated run stands on: the ground of its local training, and the clients' shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from experiments.datasets.dataset import Indices
from experiments.datasets.loading import load_splits
from experiments.datasets.splits import shares_sha256
from experiments.federated.accounts import Link
from experiments.federated.clients import shares
from experiments.federated.config import FederatedConfig
from experiments.loading import load_built, load_device, load_graph
from experiments.training.config import ConfigError
from experiments.training.ground import (
    AUGMENTED,
    Ground,
    check_names,
    check_rate,
    identity_of,
    wide_enough,
)
from experiments.training.schedule import Schedule, rate_to_q24
from sim.model import INPUT

RATE = 0.01
"""Learning rate where none is given, for either precision: local training has no warm-up."""


@dataclass(frozen=True, slots=True, eq=False)
class FederatedGround:
    """A configuration with all that it names.

    Attributes
    ----------
    given, config
        The settings as given, and with every default filled in.
    local
        Graph, plan, device, data sets and local settings.
    shares
        Per client the indices of its images.
    schedule
        Rates of all rounds.
    link
        Connection of each phone.
    identity
        All that the result follows from, a digest of the shares included. Two runs of one
        identity give the same bits on one kind of CPU, and on any where no layer is computed in
        FP32.
    """

    given: FederatedConfig
    config: FederatedConfig
    local: Ground
    shares: list[Indices]
    schedule: Schedule
    link: Link
    identity: dict[str, Any]


def prepare(config: FederatedConfig) -> FederatedGround:
    """Load what a configuration names, and share the images out.

    A model of the zoo gets as many outputs as the data set has classes, where that is more than
    it has of its own.

    Raises
    ------
    ConfigError
        A name is not known, a model has too few outputs, or more clients are wanted than there
        are.
    ValueError
        From the loaders of models, plans, devices and data sets, each telling its own file.
    """
    wanted = config.training
    check_names(wanted)
    graph = load_graph(wanted.model, wanted.batch)
    _, channels, height, width = graph.tensor(INPUT).shape
    train, test = load_splits(
        wanted.dataset,
        wanted.data,
        shape=(height, width, channels),
        split_of_test=wanted.split_of_test,
        sizes=wanted.sizes,
    )
    graph = wide_enough(graph, wanted.model, len(train.classes))
    device = load_device(wanted.device)
    plan = load_built(wanted.plan, graph, device).plan
    check_rate(wanted, plan)
    rate = RATE if wanted.rate is None else wanted.rate
    augment = AUGMENTED.get(wanted.dataset, ()) if wanted.augment is None else wanted.augment
    local_config = replace(wanted, rate=rate, augment=augment)
    rule = _rule(config.aggregate, "int8" in plan.aspect("precision").values(), plan.name)
    parts, tested = shares(train, test, config.clients, config.alpha, wanted.seed)
    if config.per_round > len(parts):
        raise ConfigError(
            f"per_round: {config.per_round}; allowed: 1 to {len(parts)}, the clients there are"
        )
    schedule = Schedule(wanted.schedule, rate_to_q24(rate), config.rounds, wanted.warmup)
    identity = identity_of(local_config, graph, plan, device, (train, tested))
    own = replace(config, training=local_config, clients=len(parts), aggregate=rule)
    more = {name: value for name, value in own.as_json().items() if name != "training"}
    return FederatedGround(
        given=config,
        config=own,
        local=Ground(
            given=wanted,
            config=local_config,
            graph=graph,
            plan=plan,
            device=device,
            train=train,
            validation=None,
            test=tested,
            batches=-(-max(map(len, parts)) // wanted.batch),
            schedule=schedule,
            identity=identity,
        ),
        shares=parts,
        schedule=schedule,
        link=Link(config.down_mbps, config.up_mbps),
        identity={
            "kind": "federated",
            **identity,
            **more,
            "shares_sha256": shares_sha256(parts),
        },
    )


def _rule(given: str | None, integer: bool, plan: str) -> str:
    """Rule of the server; one for INT8 needs a plan with INT8 layers, and the other way round."""
    if given is None:
        return "fp32-global" if integer else "fp32"
    if (given == "fp32") == integer:
        allowed = "int8, fp32-global" if integer else "fp32"
        kind = "INT8" if integer else "FP32"
        raise ConfigError(f"aggregate: {given!r}; plan {plan} trains in {kind}: take {allowed}")
    return given
