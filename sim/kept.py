"""What stays in memory between the forward and the backward pass of a lowered step."""

from __future__ import annotations

from kernels.operators import Role
from sim.autodiff import LOSS
from sim.draft import Draft


def kept_bytes(draft: Draft) -> dict[str, int]:
    """Bytes of each buffer that is written up to the loss and read after it; weights left out.

    This is what techniques that save activations change. The peak of a step may lie elsewhere, in
    a layer whose input and output are alive together.

    Parameters
    ----------
    draft
        After any aspect: with that of precision, sizes are those of the data types.

    Examples
    --------
    >>> from sim.draft import draft_of
    >>> from sim.autodiff import training_graph
    >>> from sim.zoo import load_model
    >>> kept = kept_bytes(draft_of(training_graph(load_model("lenet", batch=8))))
    >>> sorted(kept)[:3], kept["pool1.out"]
    (['input', 'label', 'linear2.out'], 92160)
    """
    turn = next(
        k for k, i in enumerate(draft.items) if i.layer == LOSS and i.role is Role.INPUT_GRAD
    )
    written = {"input", "label"}
    for item in draft.items[:turn]:
        written.update(item.writes)
    read = {name for item in draft.items[turn:] for name in item.reads}
    return {
        name: buffer.bytes
        for name, buffer in draft.buffers.items()
        if name in written and name in read and not buffer.resident
    }
