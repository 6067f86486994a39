"""What a federated run is told, checked on entry."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from experiments.datasets.splits import is_alpha
from experiments.federated.server import RULES
from experiments.training.config import ConfigError, TrainConfig, check_integer
from experiments.values import short

CLIENTS = 20
"""Clients that a data set without users is shared out to, unless told otherwise."""
DOWN_MBPS, UP_MBPS = 100, 20
"""Link of a phone in Mbit/s: **assumed**, a mobile network of middling quality."""


@dataclass(frozen=True, slots=True)
class FederatedConfig:
    """Settings of a federated run.

    Attributes
    ----------
    training
        What a client does when it is sampled: ``epochs`` are its local epochs. The schedule of
        learning rates runs over the rounds, and ``profile`` schedules of gradient bits take a
        round for an epoch. ``validation`` must be 0.
    rounds
        Rounds of the server.
    clients
        How many there are. None: all users of a data set that names users, else 20. Fewer than
        the users: that many of them, drawn by the seed.
    per_round
        Clients sampled each round, without replacement.
    alpha
        Of the Dirichlet distribution by which images are shared out where there are no users,
        1e-9 or more; small makes clients see few classes.
    aggregate
        One of :data:`experiments.federated.server.RULES`; None: ``fp32-global`` for a plan with
        INT8 layers, else ``fp32``.
    down_mbps, up_mbps
        Link of each phone, 10^6 bit per second; assumed.
    test_every
        Rounds between tests of the global model; the last round is tested in any case.

    Raises
    ------
    ConfigError
        A value of another type, a number out of range, or an unknown rule.
    """

    training: TrainConfig
    rounds: int = 20
    clients: int | None = None
    per_round: int = 5
    alpha: float = 0.5
    aggregate: str | None = None
    down_mbps: int = DOWN_MBPS
    up_mbps: int = UP_MBPS
    test_every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.training, TrainConfig):
            raise ConfigError(f"training: {short(self.training)}; allowed: a TrainConfig")
        for name in ("rounds", "clients", "per_round", "down_mbps", "up_mbps", "test_every"):
            check_integer(self, name, 1, 1_000_000, optional=name == "clients")
        if not is_alpha(self.alpha):
            raise ConfigError(
                f"alpha: {short(self.alpha)}; allowed: above 0 (1e-9 or more), or inf"
            )
        if self.aggregate is not None and self.aggregate not in RULES:
            raise ConfigError(f"aggregate: {short(self.aggregate)}; allowed: {', '.join(RULES)}")
        for name, needed in (("validation", 0), ("trace", False)):
            value = getattr(self.training, name)
            if value != needed:
                raise ConfigError(f"{name}: {value!r}; a federated run has {needed}: leave it out")

    def as_json(self) -> dict[str, Any]:
        """Return all settings as JSON has them; an infinite alpha is ``inf``, a text."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "training"}
        return {
            **own,
            "alpha": self.alpha if isfinite(self.alpha) else "inf",
            "training": self.training.as_json(),
        }
