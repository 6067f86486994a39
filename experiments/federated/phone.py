"""One simulated phone that is every client in turn: a packet in, local training, a packet out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from experiments.datasets.dataset import Indices
from experiments.federated.clients import local_batches, local_seed
from experiments.federated.packets import Floats, Packet
from experiments.federated.server import integer_names
from experiments.training.ground import Ground
from experiments.training.progress import Tally


class FederatedError(ValueError):
    """A run cannot go on; the message says in which round, why, and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What local training made.

    Attributes
    ----------
    before, after
        Trained tensors by name, float32: as training found them, and as it left them.
    statistics
        Running statistics of batch norm by name, float32.
    tally
        Sums over the local steps.
    """

    before: dict[str, Floats]
    after: dict[str, Floats]
    statistics: dict[str, Floats]
    tally: Tally


class Phone:
    """A training session that begins anew for each client.

    Nothing is carried from one client to the next: weights come from the packet, momentum starts
    at rest, the phone is cold, and draws have a seed of their own.

    Parameters
    ----------
    ground
        What is trained and simulated.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._session = ground.session()

    @property
    def integer(self) -> frozenset[str]:
        """Names of the tensors that are trained in INT8."""
        trained = self._session.executor.parameters.trained
        return integer_names({name: tensor.value for name, tensor in trained.items()})

    def weights(self) -> dict[str, Floats]:
        """Trained tensors as float32, by name; the initial ones before the first :meth:`load`."""
        return self._session.executor.parameters.floats()

    def statistics(self) -> dict[str, Floats]:
        """Copies of batch norm's running statistics, by name."""
        found = {}
        for layer, (mean, variance) in self._session.executor.parameters.statistics.items():
            found[f"{layer}:mean"], found[f"{layer}:variance"] = mean.copy(), variance.copy()
        return found

    def load(self, packet: Packet) -> None:
        """Take over what a packet holds."""
        parameters = self._session.executor.parameters
        parameters.load_floats(packet.floats())
        for layer, (mean, variance) in parameters.statistics.items():
            mean[...] = packet.statistics[f"{layer}:mean"]
            variance[...] = packet.statistics[f"{layer}:variance"]

    def train(
        self,
        packet: Packet,
        share: Indices,
        client: int,
        number: int,
        rate_q24: int,
        heed: Callable[[], None] = lambda: None,
    ) -> Trained:
        """Train on a client's images from what the server sent.

        Parameters
        ----------
        packet
            What was received.
        share
            Indices of the client's images.
        client, number
            Client and round, keys of all draws.
        rate_q24
            Learning rate times ``2^24``.
        heed
            Called before each step; what it raises ends the training.

        Raises
        ------
        FederatedError
            The loss is no number any more.
        """
        config, session = self._ground.config, self._session
        seed = local_seed(config.seed, number, client)
        self.load(packet)
        before = self.weights()
        session.restart(seed)
        tally = Tally()
        for epoch in range(config.epochs):
            batches = local_batches(
                self._ground.train, share, config.batch, seed, epoch, config.augment or ()
            )
            for images, labels in batches:
                heed()
                step = session.step(images, labels, rate_q24=rate_q24, epoch=number)
                if not isfinite(step.result.loss):
                    raise FederatedError(
                        f"round {number + 1}, client {client}: the loss is "
                        f"{step.result.loss_text}; take a smaller rate and another folder"
                    )
                tally = tally.with_step(step, len(labels))
        return Trained(before, self.weights(), self.statistics(), tally)

    def right(self, packet: Packet) -> list[bool]:
        """Return for each test image, in order, whether a phone with this packet has it right."""
        self.load(packet)
        found: list[bool] = []
        for images, labels in self._ground.in_order(self._ground.test):
            scores = self._session.executor.predict(images)
            found += (scores.argmax(1) == labels).tolist()
        return found
