"""The clients of a federated run: whose images are whose, who is sampled, and in which order.

All of it is keyed by seed, round and client, so a round is the same whenever it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.datasets.dataset import Dataset, Indices
from experiments.datasets.keyed import key, permutation
from experiments.datasets.pipeline import Batches
from experiments.datasets.splits import by_user, non_iid
from experiments.federated.config import CLIENTS
from experiments.training.config import ConfigError


def shares(
    train: Dataset, test: Dataset, clients: int | None, alpha: float, seed: int
) -> tuple[list[Indices], Dataset]:
    """Share training images out, by user where the data set names users.

    Parameters
    ----------
    train, test
        Both splits.
    clients
        How many; None: all users, or 20.
    alpha
        Of the Dirichlet distribution, where there are no users.
    seed
        Of the sharing, or of which users take part.

    Returns
    -------
    shares, test
        Per client int64 indices into ``train``, at least one; and what to test on: the images of
        the users that take part, or all.

    Raises
    ------
    ConfigError
        More clients than users with images, or none of theirs to test on.
    DatasetError
        No split by Dirichlet gives each client an image.
    """
    if not train.users:
        return non_iid(train, clients or CLIENTS, alpha, seed), test
    split = by_user(train)
    present = np.flatnonzero([len(part) > 0 for part in split])
    count = len(present) if clients is None else clients
    if count > len(present):
        raise ConfigError(
            f"clients: {count}; {train.name} has {len(present)} users with images to train on"
        )
    chosen = np.sort(present[permutation(len(present), key("users", seed))[:count]])
    tested = np.flatnonzero(np.isin(test.owners, chosen))
    if not len(tested):
        raise ConfigError(f"clients: {count}; none of their images are tested on: take more")
    return [split[user] for user in chosen], test.take(tested)


def sampled(clients: int, per_round: int, seed: int, number: int) -> list[int]:
    """Return the clients of a round, ascending, drawn without replacement.

    Examples
    --------
    >>> sampled(5, 5, seed=0, number=3), len(set(sampled(1000, 10, seed=0, number=3)))
    ([0, 1, 2, 3, 4], 10)
    """
    drawn = permutation(clients, key("clients", seed, number))[:per_round]
    return sorted(int(client) for client in drawn)


def local_seed(seed: int, number: int, client: int) -> int:
    """Return the 63-bit seed of all draws of one client in one round."""
    return key("local", seed, number, client) >> 1


def local_batches(
    train: Dataset, share: Indices, batch: int, seed: int, epoch: int, augment: Sequence[str]
) -> Batches:
    """Return the batches of one local epoch.

    Every image of the share is shown; where they do not fill the last batch, the epoch's order
    begins anew, so that a client with fewer images than a batch trains as well.

    Parameters
    ----------
    train, share
        The training images, and int64 indices of the client's.
    batch
        Images in each batch.
    seed
        Of this client in this round, see :func:`local_seed`.
    epoch
        Local epoch, from 0.
    augment
        As in :class:`experiments.datasets.Batches`.
    """
    order = share[permutation(len(share), key("local order", seed, epoch))]
    shown = np.resize(order, -(-len(share) // batch) * batch)
    return Batches(train.take(shown), batch, seed, epoch, augment, shuffle=False)
