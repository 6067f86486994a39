"""What a run found, as the JSON of ``result.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.cli_common import manifest
from experiments.training.notes import cost_notes
from experiments.training.progress import EpochRow, Progress, Tally
from kernels.profiles import PROFILES

if TYPE_CHECKING:
    from experiments.training.ground import Ground

SCHEMA = 1
NOTE = "accuracy is computed; times and energies are predicted, not measured"
LOSS_DIGITS = 6
"""Significant digits of a loss in a result: no more are the same on every CPU."""


def result_document(
    ground: Ground,
    progress: Progress,
    right: NDArray[np.bool_],
    *,
    last_sha256: str,
    chosen_sha256: str,
) -> dict[str, Any]:
    """Return the content of ``result.json``.

    Parameters
    ----------
    ground, progress
        Of a run whose epochs are all done.
    right
        bool (test images,): whether the chosen parameters classify each rightly, in order.
    last_sha256, chosen_sha256
        Digests of the parameters after the last step, and of those that were tested.

    Returns
    -------
    dict
        ``notes``, what is trained with but left out of the simulated costs; ``identity``, with all
        settings; ``data`` (sizes and files); ``epochs``, a row each with
        sums of that epoch, and ``time_ns`` and ``energy_pj`` from the start; ``chosen_epoch``;
        ``test`` with accuracy and the bits of ``right`` in hex, first image in the highest bit;
        ``simulated`` and ``rescale`` totals (None without); ``weights_sha256`` and
        ``chosen_sha256``; ``manifest``; ``wall_ms``, the time taken on this machine.

    Notes
    -----
    Stops, kills, threads and back-ends change ``wall_ms`` alone. On another machine there may
    differ besides: ``manifest.versions`` and, with them, the ``version`` and ``numpy`` of
    ``identity``; the last digit of a ``loss``, a floating-point sum for display; and, where a
    layer is computed in FP32 (all of ``mnn-fp32``, batch norm in INT8 plans), whatever follows
    from the weights: their digests, losses and accuracies, rescale counts, and the simulated
    times of rules that follow the tensors.
    """
    assert progress.best is not None
    total = progress.total
    timed = ground.config.engine != "none"
    validation = 0 if ground.validation is None else len(ground.validation)
    return {
        "schema": SCHEMA,
        "note": NOTE,
        "notes": cost_notes(
            ground.graph,
            ground.plan,
            ground.device,
            profile=PROFILES[ground.config.profile],
            momentum=ground.config.momentum,
        )
        if timed
        else [],
        "identity": ground.identity,
        "data": {
            "train": len(ground.train),
            "validation": validation,
            "test": len(ground.test),
            "files_sha256": dict(ground.train.sha256),
            "official": ground.train.official,
        },
        "steps": total.steps,
        "epochs": _rows(progress.rows, validation, timed),
        "chosen_epoch": progress.best,
        "test": {
            "accuracy": float(right.mean()),
            "correct": int(right.sum()),
            "images": len(right),
            "right_hex": np.packbits(right).tobytes().hex(),
        },
        "simulated": {
            "time_ns": total.time_ns,
            "energy_pj": total.energy_pj,
            "first_step_ns": progress.first_ns,
        }
        if timed
        else None,
        "rescale": rescale_shares(total),
        "overflowed": total.overflowed,
        "weights_sha256": last_sha256,
        "chosen_sha256": chosen_sha256,
        "manifest": manifest(
            graph=ground.graph,
            device=ground.device,
            plans={ground.plan.name: ground.plan},
            seed=ground.config.seed,
            config=ground.settings,
        ),
        "wall_ms": progress.wall_ms,
    }


def rescale_shares(tally: Tally) -> dict[str, float] | None:
    """Return what rescaling met, as counts and shares; None where nothing was rescaled.

    ``skipped_share`` is of tensors times steps; ``saturated_share`` (clipped) and ``lost_share``
    (non-zero sums that became 0) are of all values.
    """
    if not tally.tensors:
        return None
    values = max(1, tally.values)
    return {
        "tensors": tally.tensors,
        "scans": tally.scans,
        "stale": tally.stale,
        "saturated": tally.saturated,
        "lost": tally.lost,
        "values": tally.values,
        "skipped_share": 1 - tally.scans / tally.tensors,
        "saturated_share": tally.saturated / values,
        "lost_share": tally.lost / values,
    }


def shown_loss(tally: Tally) -> float:
    """Return the mean loss of a step with :data:`LOSS_DIGITS` significant digits.

    Examples
    --------
    >>> shown_loss(Tally(steps=3, loss=7.0))
    2.33333
    """
    return float(f"{tally.mean_loss:.{LOSS_DIGITS}g}")


def _rows(rows: tuple[EpochRow, ...], validation: int, timed: bool) -> list[dict[str, Any]]:
    made, so_far = [], Tally()
    for row in rows:
        so_far = so_far.joined(row.tally)
        right = row.validation_correct
        made.append(
            {
                "epoch": row.epoch,
                "steps": row.tally.steps,
                "loss": shown_loss(row.tally),
                "train_accuracy": row.tally.accuracy,
                "validation_accuracy": None if right is None else right / validation,
                "validation_correct": right,
                "time_ns": so_far.time_ns if timed else None,
                "energy_pj": so_far.energy_pj if timed else None,
                "rescale": rescale_shares(row.tally),
            }
        )
    return made
