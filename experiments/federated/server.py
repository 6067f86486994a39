"""The server of a federated run: what it sends, and what it makes of the answers.

All rules are FedAvg (H. B. McMahan et al., arXiv 1602.05629): a mean over the sampled clients,
weighted by their images. They differ in what is averaged and kept.

* ``int8``: clients send their INT8 weights; the server rounds the mean to INT8 again and keeps
  nothing else. A mean change of less than half a unit is lost (yuanjinliang1/IntFL-TMC,
  ``IntFL-femnist-1/niti/server.py``, ``update_model``; there requantising stretches the values to
  the whole range of INT8, here they keep their scale).
* ``fp32-global``: the server keeps FP32 weights and sends them rounded to INT8; clients send the
  *difference* that their training made, in INT8 with an exponent of its own, and its mean is added
  to the FP32 weights, so small changes add up over the rounds until they show in INT8. The idea is
  that of Q-FedUpdate (WWW 2024, doi 10.1145/3589334.3645341; ``update_int_model_temp_3`` in
  ``MixPrecisionFL-femnist-1/niti/server.py`` of the same repository, where clients send weights).
* ``fp32``: weights are trained, sent and averaged in FP32.

Tensors that a plan trains in FP32 are averaged in FP32 under every rule, as are the running
statistics of batch norm. Sums run over the clients in the order of their numbers, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.federated.packets import Floats, Packet, packed, values
from kernels.quantised import QTensor, quantise_exactly

RULES = ("int8", "fp32-global", "fp32")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a client sends back, and the images that it trained on."""

    packet: Packet
    images: int


@dataclass(slots=True, eq=False)
class Server:
    """The global model.

    Attributes
    ----------
    rule
        One of :data:`RULES`.
    integer
        Names of the tensors that clients train in INT8.
    weights
        Trained tensors by name, float32; under ``int8`` every value is one of INT8.
    statistics
        Running statistics by name, float32.

    Examples
    --------
    A change of 0.4 of an INT8 unit is lost under one rule and adds up under the other:

    >>> def three_rounds(rule):
    ...     server = Server(rule, frozenset({"w"}), {"w": np.array([0.375, 0.0], np.float32)})
    ...     for _ in range(3):
    ...         before = server.broadcast().floats()
    ...         after = {"w": before["w"] + np.float32(0.4 * 2**-8)}
    ...         server.merge([Answer(server.answer(before, after, {}), 10)])
    ...     return server.broadcast().floats()["w"].tolist()
    >>> three_rounds("int8"), three_rounds("fp32-global")
    ([0.375, 0.0], [0.37890625, 0.00390625])
    """

    rule: str
    integer: frozenset[str]
    weights: dict[str, Floats]
    statistics: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule: {self.rule!r}; allowed: {', '.join(RULES)}")
        if self.rule == "int8":  # the server keeps nothing finer, from the first round on
            self.weights = self.broadcast().floats()

    def broadcast(self) -> Packet:
        """Return what each sampled client receives."""
        return packed(self.weights, self.integer, self.statistics)

    def answer(
        self,
        before: Mapping[str, Floats],
        after: Mapping[str, Floats],
        statistics: Mapping[str, Floats],
    ) -> Packet:
        """Return what a client sends that trained from ``before`` to ``after``."""
        if self.rule == "fp32-global":
            after = {n: a - before[n] if n in self.integer else a for n, a in after.items()}
        return packed(after, self.integer, statistics)

    def merge(self, answers: Sequence[Answer]) -> tuple[int, int]:
        """Take the answers of a round, in the order of the clients' numbers.

        Returns
        -------
        moved, stuck
            INT8 weights that the clients' mean moved, and those of them whose INT8 value is the
            same as before all the same: lost under ``int8``, kept in FP32 under ``fp32-global``.

        Raises
        ------
        ValueError
            No answer, or one of no images.
        """
        if not answers or any(answer.images < 1 for answer in answers):
            counts = [answer.images for answer in answers]
            raise ValueError(f"answers: images {counts}; give one answer or more, of images each")
        before = self.broadcast()
        moved = stuck = 0
        for name, kept in self.weights.items():
            mean = _mean([(values(a.packet.tensors[name]), a.images) for a in answers])
            if name not in self.integer:
                self.weights[name] = mean.astype(np.float32)
                continue
            old = before.tensors[name]
            if self.rule == "fp32-global":
                changed = mean != 0
                self.weights[name] = (kept.astype(np.float64) + mean).astype(np.float32)
            else:
                changed = mean != values(old)
                self.weights[name] = _rounded(mean)
            new = quantise_exactly(self.weights[name])
            moved += int(changed.sum())
            stuck += int((changed & (new.dequantise() == values(old))).sum())
        for name in self.statistics:
            found = [(values(a.packet.statistics[name]), a.images) for a in answers]
            self.statistics[name] = _mean(found).astype(np.float32)
        return moved, stuck


def _mean(weighted: Sequence[tuple[NDArray[np.float64], int]]) -> NDArray[np.float64]:
    total = np.zeros_like(weighted[0][0])
    for array, images in weighted:
        total += array * images
    return total / sum(images for _, images in weighted)


def _rounded(mean: NDArray[np.float64]) -> Floats:
    """INT8 values nearest to a mean."""
    return quantise_exactly(mean).dequantise().astype(np.float32)


def integer_names(values_of: Mapping[str, object]) -> frozenset[str]:
    """Names of those values that kernels read as INT8."""
    return frozenset(name for name, value in values_of.items() if isinstance(value, QTensor))
