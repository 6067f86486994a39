"""Batch split: run one kernel as several micro-batches.

Subjects are kernels with MACs; the choice is the micro-batch, a divisor of the batch. Forward and
dX parts concatenate. Only dW accumulates: its micro-batches run one after the other and add into
one accumulator, which is rescaled once, so that in integers split equals unsplit bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

from cost_models.device import Device
from kernels.operators import Role
from sim.aspects.base import Aspect, StepContext
from sim.draft import Draft, Item


def divisors(value: int) -> list[int]:
    """Divisors of ``value``, largest first."""
    return [d for d in range(value, 0, -1) if value % d == 0]


class BatchSplit(Aspect):
    """Micro-batch of each kernel with MACs."""

    name = "batch_split"
    numeric = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Kernels with MACs, in order."""
        return [i.subject for i in draft.items if i.has_macs and i.op.batch_splittable]

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """Divisors of the batch; the batch itself means no split."""
        return tuple(str(d) for d in divisors(draft.batch))

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """No split."""
        return str(draft.batch)

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Replace each split kernel by its micro-batches."""
        items: list[Item] = []
        for item in draft.items:
            size = int(choices.get(item.subject, draft.batch)) if item.has_macs else draft.batch
            items.extend([item] if size >= draft.batch else _micro_batches(item, size))
        return draft.with_items(items)


def _micro_batches(item: Item, size: int) -> list[Item]:
    op = item.op.with_batch(size)
    accumulating = item.role is Role.WEIGHT_GRAD
    parts = []
    for k in range(item.op.batch // size):
        reads = (*item.reads, *item.writes) if accumulating and k else item.reads
        parts.append(
            item._replace(
                name=f"{item.name}#{k}",
                op=op,
                reads=reads,
                accumulates=accumulating and k > 0,
            )
        )
    return parts
