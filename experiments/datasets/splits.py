"""A data set shared out: a validation part, and the parts of the clients of a federated run.

All splits are deterministic: the same data set, numbers and seed give the same indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import cos, inf, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.dataset import SEEDS, Dataset, DatasetError, Indices, whole_number
from experiments.datasets.keyed import draws, key, permutation
from experiments.values import short, whole

ATTEMPTS = 100
"""How often :func:`non_iid` draws anew before it gives up."""
LEAST_ALPHA = 1e-9
"""Below, logarithms of variates leave float64; each class is one client's long before."""
MOST_ALPHA = 1e300
"""Above, they do as well; all clients are alike long before."""


def split_validation(dataset: Dataset, part: float | int, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Set a part of each class aside, to choose by while the test split stays unseen.

    Parameters
    ----------
    dataset
        What to train on.
    part
        A fraction (float, above 0 and below 1) or a number of images (int). Classes give in
        proportion, by largest remainders; ties go to the lower label.
    seed
        Which images.

    Returns
    -------
    tuple of Dataset
        The rest, and the part under the split ``validation``; each in the old order. Both keep
        the mean and deviation of the whole training part.

    Raises
    ------
    DatasetError
        Nothing would be left on one side.
    """
    total = len(dataset)
    seed = whole_number("seed", seed, 0, SEEDS - 1)
    fraction = isinstance(part, float | np.floating) and 0 < part < 1
    wanted = whole(round(part * total) if fraction else part, 1, total - 1)
    if wanted is None:
        raise DatasetError(
            f"part: {short(part)} of {total} images; give a fraction above 0 and below 1, or a "
            f"count of 1 to {total - 1}"
        )
    sizes = np.bincount(dataset.labels, minlength=len(dataset.classes))
    shares = _apportioned(sizes / total, wanted)
    chosen = np.zeros(total, np.bool_)
    for label, share in enumerate(shares):
        own = np.flatnonzero(dataset.labels == label)
        chosen[own[permutation(len(own), key("validation", seed, label))[:share]]] = True
    rest, validation = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    return dataset.take(rest), dataset.take(validation, split="validation")


def class_part(dataset: Dataset, part: str, *, shared: bool = True) -> Dataset:
    """Take the images of some classes: two parts to pre-train on one and fine-tune on the other.

    The first six of ten classes are of ``source``, the last six of ``target`` (of another number
    of classes three fifths, rounded up). Where images of ``shared`` classes must not be in both,
    every other one of a class goes to either part: no image is in two parts.

    Parameters
    ----------
    dataset
        A training or test split.
    part
        ``source`` or ``target``.
    shared
        True for a test split: both parts are tested on all images of a class that both have.

    Returns
    -------
    Dataset
        In the old order, with the old labels, mean and deviation.

    Raises
    ------
    DatasetError
        Another part, fewer than two classes, or no image is left.
    """
    classes = len(dataset.classes)
    if part not in ("source", "target") or classes < 2:
        raise DatasetError(
            f"part: {short(part)} of {classes} classes; allowed: source or target of 2 or more"
        )
    width = -(-3 * classes // 5)
    low = dataset.labels < width
    high = dataset.labels >= classes - width
    chosen = low if part == "source" else high
    if not shared:
        rank = np.zeros(len(dataset), np.int64)
        for label in range(classes - width, width):
            own = np.flatnonzero(dataset.labels == label)
            rank[own] = np.arange(len(own))
        chosen = chosen & (~(low & high) | (rank % 2 == (part == "target")))
    if not chosen.any():
        raise DatasetError(f"part: {part} holds no image of {dataset.name}; take more images")
    return dataset.take(np.flatnonzero(chosen))


def non_iid(
    dataset: Dataset, clients: int, alpha: float, seed: int = 0, least: int = 1
) -> list[Indices]:
    """Share the images out among clients, each class in proportions drawn from Dir(alpha).

    As T.-M. H. Hsu, H. Qi and M. Brown (arXiv 1909.06335) have it per client, here per class: the
    proportions of one class over the clients are a draw from a symmetric Dirichlet distribution.

    Parameters
    ----------
    dataset
        Whose labels are shared out.
    clients
        How many clients.
    alpha
        1e-9 or more: small makes clients see few classes (0.1), large makes them alike; ``inf``
        gives all the same proportions.
    seed
        Another seed, another draw.
    least
        Images that each client must get; it is drawn anew, up to 100 times, until they do.

    Returns
    -------
    list of ndarray
        Per client int64 indices, ascending. Each image is in exactly one.

    Raises
    ------
    DatasetError
        A number out of range, or no draw that gives each client enough.

    Notes
    -----
    The draws are integers and the same everywhere. The proportions are floating point, by the C
    library's ``log`` and ``cos`` and NumPy's ``exp``: on a machine that rounds one of these
    otherwise, an image may, rarely, go to another client, or a draw be refused that is taken
    here. :func:`shares_sha256` tells whether two machines share out alike.
    """
    total, seed = len(dataset), whole_number("seed", seed, 0, SEEDS - 1)
    count, each = whole(clients, 1, total), whole(least, 0, total)
    if count is None or each is None or count * each > total or not is_alpha(alpha):
        raise DatasetError(
            f"clients: {short(clients)}, alpha: {short(alpha)}, least: {short(least)} for {total} "
            "images; give 1 client or more, alpha above 0 (1e-9 or more, or inf), and no more "
            "clients x least than there are images"
        )
    clients, least, alpha = count, each, float(alpha)
    for attempt in range(ATTEMPTS):
        owner = _drawn_owners(dataset, clients, alpha, key("non_iid", seed, attempt))
        if np.bincount(owner, minlength=clients).min() >= least:
            return [np.flatnonzero(owner == client) for client in range(clients)]
    raise DatasetError(
        f"least: no draw of {ATTEMPTS} gave each of {clients} clients {least} images at alpha "
        f"{alpha}; raise alpha, or lower clients or least"
    )


def is_alpha(value: object) -> bool:
    """Whether a value can be the parameter of a symmetric Dirichlet distribution."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    return bool(LEAST_ALPHA <= value <= MOST_ALPHA or value == inf)


def shares_sha256(shares: Sequence[Indices]) -> str:
    """Return the SHA-256 of who has which images: equal for equal shares, in order.

    Parameters
    ----------
    shares
        Per client int64 indices.

    Examples
    --------
    >>> shares_sha256([np.array([0, 1]), np.array([2])])[:8]
    '633d3b78'
    """
    digest = sha256()
    for share in shares:
        digest.update(f"{len(share)};".encode())
        digest.update(share.astype("<i8").tobytes())
    return digest.hexdigest()


def by_user(dataset: Dataset) -> list[Indices]:
    """Return the images of each user, in the order of ``dataset.users``: a real non-IID split.

    Raises
    ------
    DatasetError
        The data set names no users.
    """
    if not dataset.users:
        raise DatasetError(f"{dataset.name} names no users; use femnist, or non_iid")
    order = np.argsort(dataset.owners, kind="stable")
    ends = np.cumsum(np.bincount(dataset.owners, minlength=len(dataset.users)))
    return [np.asarray(part, np.int64) for part in np.split(order, ends[:-1])]


def _drawn_owners(dataset: Dataset, clients: int, alpha: float, a_key: int) -> Indices:
    """Client of each image."""
    owner = np.empty(len(dataset), np.int64)
    for label in range(len(dataset.classes)):
        own = np.flatnonzero(dataset.labels == label)
        proportions = _dirichlet(clients, alpha, key(a_key, label))
        counts = _apportioned(proportions, len(own))
        shuffled = own[permutation(len(own), key(a_key, label, "order"))]
        owner[shuffled] = np.repeat(np.arange(clients), counts)
    return owner


def _apportioned(proportions: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Counts that sum to ``total``, by largest remainders; ties go to the first."""
    exact = proportions * total
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def _dirichlet(count: int, alpha: float, a_key: int) -> NDArray[np.float64]:
    """Return one draw from the symmetric Dirichlet distribution: gamma variates over their sum."""
    if alpha == inf:
        return np.full(count, 1 / count)
    logs = np.array([_log_gamma_variate(alpha, key(a_key, entry)) for entry in range(count)])
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _log_gamma_variate(alpha: float, a_key: int) -> float:
    """Return the logarithm of a draw from Gamma(alpha, 1).

    G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables" (ACM TOMS 26,
    2000); below 1 by ``Gamma(alpha + 1) * U^(1 / alpha)``. In logarithms a small alpha does not
    underflow.
    """
    shape = alpha + 1 if alpha < 1 else alpha
    d = shape - 1 / 3
    c = 1 / sqrt(9 * d)
    boost = log(_uniforms(a_key, 0)[0]) / alpha if alpha < 1 else 0.0
    attempt = 1
    while True:
        first, second, third = _uniforms(a_key, attempt)
        normal = sqrt(-2 * log(first)) * cos(2 * pi * second)  # Box and Muller
        v = (1 + c * normal) ** 3
        if v > 0 and log(third) < normal**2 / 2 + d - d * v + d * log(v):
            return log(d * v) + boost
        attempt += 1


def _uniforms(a_key: int, attempt: int) -> tuple[float, float, float]:
    """Three floats above 0 and below 1."""
    drawn = draws(a_key, 3 * attempt + np.arange(3)) >> np.uint64(11)
    first, second, third = ((drawn.astype(np.float64) + 0.5) * 2.0**-53).tolist()
    return first, second, third
