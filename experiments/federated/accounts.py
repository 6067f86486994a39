"""Time, energy and bytes of rounds: what the phones would have taken.

A phone that is sampled receives, trains and sends, one after the other; it starts cold, since it
was last sampled long ago: subgraphs are prepared anew and every shift is scanned for. The phones
of a round work at the same time, so the slowest makes the round; their energies add up. The
server takes no time. Times on the link are bytes over a constant rate, an assumption; energy is
that of training, the radio's is not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.training.progress import Tally


@dataclass(frozen=True, slots=True)
class Link:
    """A phone's connection, in 10^6 bit per second: assumed, constant, without latency."""

    down_mbps: int
    up_mbps: int

    def time_ns(self, down_bytes: int, up_bytes: int) -> int:
        """Time to receive and to send, each rounded up to a nanosecond.

        Examples
        --------
        >>> Link(down_mbps=100, up_mbps=20).time_ns(1_000_000, 1_000_000)
        480000000
        """
        down, up = (
            -(-size * 8000 // rate)
            for size, rate in ((down_bytes, self.down_mbps), (up_bytes, self.up_mbps))
        )
        return down + up


@dataclass(frozen=True, slots=True)
class Visit:
    """What one client did in a round.

    Attributes
    ----------
    client
        Its number.
    tally
        Sums over its local steps.
    down_bytes, up_bytes
        Received and sent.
    down_fp32_bytes, up_fp32_bytes
        The same messages if they were in FP32.
    """

    client: int
    tally: Tally
    down_bytes: int
    up_bytes: int
    down_fp32_bytes: int
    up_fp32_bytes: int

    def time_ns(self, link: Link) -> int:
        """From the beginning of the round until its answer has arrived."""
        return self.tally.time_ns + link.time_ns(self.down_bytes, self.up_bytes)


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round that is done.

    Attributes
    ----------
    number
        From 0.
    clients
        Who took part.
    tally
        Sums over all their local steps; ``time_ns`` is all their training, one after the other.
    slowest
        The client that made the round as long as it was.
    time_ns, training_ns
        Of that client: with the link, and training alone.
    down_bytes, up_bytes, down_fp32_bytes, up_fp32_bytes
        All clients together, see :class:`Visit`.
    moved, stuck
        See :meth:`experiments.federated.server.Server.merge`.
    correct
        Test images that the global model has right after the round; None where it was not tested.
    """

    number: int
    clients: tuple[int, ...]
    tally: Tally
    slowest: int
    time_ns: int
    training_ns: int
    down_bytes: int
    up_bytes: int
    down_fp32_bytes: int
    up_fp32_bytes: int
    moved: int
    stuck: int
    correct: int | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it; floats keep their bits."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RoundRow:
        """Return what :meth:`as_json` gave.

        Raises
        ------
        TypeError, KeyError
            A field is missing or unknown.
        """
        clients = tuple(content["clients"])
        return cls(**{**content, "tally": Tally(**content["tally"]), "clients": clients})


def round_row(
    number: int, visits: Sequence[Visit], link: Link, changed: tuple[int, int], correct: int | None
) -> RoundRow:
    """Return the account of a round; of equally slow clients, the first counts as the slowest.

    Parameters
    ----------
    number
        Of the round.
    visits
        Of all its clients, at least one.
    link
        Of each phone.
    changed
        ``moved`` and ``stuck``.
    correct
        Test images right afterwards, or None.
    """
    slowest = max(visits, key=lambda visit: visit.time_ns(link))
    tally = Tally()
    for visit in visits:
        tally = tally.joined(visit.tally)
    return RoundRow(
        number=number,
        clients=tuple(visit.client for visit in visits),
        tally=tally,
        slowest=slowest.client,
        time_ns=slowest.time_ns(link),
        training_ns=slowest.tally.time_ns,
        down_bytes=sum(visit.down_bytes for visit in visits),
        up_bytes=sum(visit.up_bytes for visit in visits),
        down_fp32_bytes=sum(visit.down_fp32_bytes for visit in visits),
        up_fp32_bytes=sum(visit.up_fp32_bytes for visit in visits),
        moved=changed[0],
        stuck=changed[1],
        correct=correct,
    )
