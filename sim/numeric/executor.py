"""The numeric executor: it computes the lowered items of a step on real tensors.

It walks the draft that the simulator times, item by item in its order, so each numeric kernel is
one row of the timeline. What the phone would move in memory (transposes, turned weights, channel
layout) is bookkeeping of the kernels here and costs nothing: those items hand their value on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from kernels.operators import channels_last
from kernels.profiles import NumericProfile
from kernels.quantised import QTensor
from sim.autodiff import LABEL, LOSS
from sim.draft import Draft, Item
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.model import INPUT
from sim.numeric import (  # noqa: F401  # they register kernels
    backward_kernels,
    fp32_kernels,
    half_kernels,
    int8_kernels,
    int8_macs,
    norm_kernels,
)
from sim.numeric.calls import Call, calls_of
from sim.numeric.entry import (
    SEEDS,
    THREADS,
    check_backend,
    check_integer,
    check_kind,
    check_what,
    checked_inputs,
    chosen_profile,
)
from sim.numeric.frame import Frame, NumericError, StepInputs
from sim.numeric.parameters import Parameters
from sim.numeric.records import ShiftRecord
from sim.numeric.trained import Hyper
from sim.numeric.trained_integers import WideTrained
from sim.numeric.values import Floats, Pool
from sim.plan import Plan


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a computed step leaves behind, apart from the parameters.

    Attributes
    ----------
    loss
        Mean cross-entropy before the update, for display.
    correct
        Samples of the batch that were classified rightly before the update.
    records
        What rescaling met, by subject.
    overflows
        Results of 16-bit kernels that are infinite or no numbers, by item; only where there are.
    """

    loss: float
    correct: int
    records: Mapping[str, ShiftRecord]
    overflows: Mapping[str, int] = field(default_factory=dict)

    @property
    def loss_text(self) -> str:
        """The loss, and what overflowed in 16 bits where something did, for messages."""
        if not self.overflows:
            return str(self.loss)
        first, total = next(iter(self.overflows)), sum(self.overflows.values())
        return (
            f"{self.loss}, {total:,} results in 16 bits overflowed in this step (first of {first})"
        )


class NumericExecutor:
    """Computes steps of one plan on one graph; holds the parameters that they train.

    Parameters
    ----------
    graph, plan, device
        As for :func:`sim.lower_step`; the device decides nothing numeric.
    profile
        Arithmetic of the INT8 layers: a name in :data:`kernels.profiles.PROFILES`, or a profile.
    hyper
        Momentum and weight decay, where the profile (or FP32) has them.
    seed
        Of the initial weights and every draw.
    threads
        Threads of every kernel; all cores by default. Integer results do not depend on it.
    backend
        Of the INT8 matrix products, see :func:`kernels.gemm.gemm_s8s8s32`.

    Raises
    ------
    NumericError
        An argument is of another type, out of range or an unknown name; or an operator of the
        graph has no numeric kernel in the precision that the plan chose.
    GemmError
        No back-end of that name, or one that this CPU cannot run.
    """

    def __init__(
        self,
        graph: TrainingGraph,
        plan: Plan,
        device: Device,
        *,
        profile: str | NumericProfile = "sandbox",
        hyper: Hyper | None = None,
        seed: int = 0,
        threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        check_what(graph, plan, device)
        profile, hyper = chosen_profile(profile), Hyper() if hyper is None else hyper
        check_kind("hyper", hyper, Hyper)
        seed = check_integer("seed", seed, 0, SEEDS - 1)
        if threads is not None:
            threads = check_integer("threads", threads, 1, THREADS)
        check_backend(backend)
        self.graph, self.profile = graph, profile
        self.threads, self.backend = threads, backend
        self._pool = Pool()
        self.logits = graph.node(LOSS).inputs[0]
        self._unsplit = draft_before("batch_split", graph, plan, device)
        self._forward = calls_of(_upstream(self._unsplit, self.logits), keep=self.logits)
        self._newest: tuple[Draft, tuple[Call, ...]] | None = None
        self.parameters = Parameters.start(self._unsplit, profile, hyper, seed)
        trained = self.parameters.trained.values()
        self._wide = any(isinstance(tensor, WideTrained) for tensor in trained)

    def step(
        self,
        draft: Draft,
        images: Floats,
        labels: NDArray[np.int64],
        inputs: StepInputs,
        compute: Callable[[Call, Frame], None] = Call.compute,
    ) -> StepResult:
        """Compute one training step, update included.

        Parameters
        ----------
        draft
            The lowered items of the step, from :meth:`sim.lowering.Lowering.draft`.
        images
            ``(n, h, w, c)`` float32, normalised.
        labels
            ``(n,)`` int64.
        inputs
            Rate, shifts in force, and keys of the draws.
        compute
            Computes one item on a frame, for backends that run some of them elsewhere.

        Raises
        ------
        NumericError
            Images or labels of another dtype, shape or range; a rate or an epoch that is no
            integer, or out of range.
        """
        frame = self.start(draft, images, labels, inputs)
        correct = 0
        for call in self.program(draft):
            compute(call, frame)
            if self.logits in call.complete:
                correct = self.correct(frame, labels)
            for name in call.dead:
                frame.release(name)
        return StepResult(frame.loss, correct, frame.records, frame.overflows)

    def start(
        self, draft: Draft, images: Floats, labels: NDArray[np.int64], inputs: StepInputs
    ) -> Frame:
        """Return the frame of a step before its first item; arguments and errors as :meth:`step`.

        For executors that compute the items of :meth:`program` in an order of their own.
        """
        self._check_images(images)
        self._check_labels(labels)
        frame = self._frame(draft, checked_inputs(inputs, self._wide))
        frame.put(INPUT, images)
        frame.put(LABEL, labels)
        return frame

    def correct(self, frame: Frame, labels: NDArray[np.int64]) -> int:
        """Samples that the logits in a frame classify rightly."""
        return int((_scores(frame, self.logits).argmax(1) == labels).sum())

    def predict(
        self, images: Floats, seen: Callable[[Item, Frame], None] = lambda item, frame: None
    ) -> Floats:
        """Logits ``(n, classes)`` float32 of a batch of any size, in evaluation mode.

        Every INT8 tensor is scanned for its shift; batch norm uses running statistics; nothing
        is dropped. ``seen`` is told of each item after it was computed.

        Raises
        ------
        NumericError
            Images of another dtype or shape.
        """
        self._check_images(images, any_batch=True)
        frame = self._frame(self._unsplit, StepInputs(training=False))
        frame.put(INPUT, images)
        for call in self._forward:
            item = _with_batch(call.item, len(images))
            call.kernel(frame, item)
            seen(item, frame)
            for name in call.dead:
                frame.release(name)
        scores = _scores(frame, self.logits)
        frame.release(self.logits)
        return scores

    def _check_images(self, images: Floats, *, any_batch: bool = False) -> None:
        wanted = channels_last(self.graph.tensor(INPUT).shape)
        found = getattr(images, "shape", None)
        fits = found is not None and (
            found[1:] == wanted[1:] and found[0] > 0 if any_batch else found == wanted
        )
        if not fits or images.dtype != np.float32:
            shape = ("any", *wanted[1:]) if any_batch else wanted
            raise NumericError(
                f"images are {getattr(images, 'dtype', type(images).__name__)} {found}; allowed: "
                f"float32 ({', '.join(map(str, shape))}), channels last"
            )

    def _check_labels(self, labels: NDArray[np.int64]) -> None:
        batch, classes = self.graph.tensor(self.logits).shape[:2]
        kind = getattr(labels, "dtype", None)
        if getattr(labels, "shape", None) != (batch,) or kind is None or kind.kind not in "iu":
            raise NumericError(
                f"labels are {kind} {getattr(labels, 'shape', None)}; allowed: integers ({batch},)"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise NumericError(
                f"labels hold {labels.min()} .. {labels.max()}; allowed: 0 .. {classes - 1}"
            )

    def program(self, draft: Draft) -> tuple[Call, ...]:
        """The calls of a draft; those of the newest are remembered."""
        if self._newest is None or self._newest[0] is not draft:
            self._newest = draft, calls_of(draft.items)
        return self._newest[1]

    def _frame(self, draft: Draft, inputs: StepInputs) -> Frame:
        return Frame(
            draft, inputs, self.parameters, self.profile, self._pool, self.threads, self.backend
        )


def _scores(frame: Frame, name: str) -> Floats:
    value = frame.get(name)
    scores = value.dequantise() if isinstance(value, QTensor) else frame.floats(name)
    return scores.reshape(len(scores), -1).astype(np.float32)


def _upstream(draft: Draft, target: str) -> list[Item]:
    """The items that lead to a buffer, in order."""
    wanted, found = {target}, []
    for item in reversed(draft.items):
        if wanted.intersection(item.writes):
            wanted.update(item.reads)
            found.append(item)
    return found[::-1]


@lru_cache(maxsize=4096)
def _with_batch(item: Item, batch: int) -> Item:
    return item._replace(op=item.op.with_batch(batch))
