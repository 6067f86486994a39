"""What a federated run found, as the JSON of its ``result.json``."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from experiments.federated.accounts import RoundRow
from experiments.federated.ground import FederatedGround
from experiments.federated.server import Server
from experiments.results import versions
from experiments.training.progress import Tally
from experiments.training.result import rescale_shares, shown_loss

SCHEMA = 1
NOTE = (
    "accuracy is computed; times and energies are predicted, not measured; the link's rates are "
    "assumed, its energy is not modelled"
)


def federated_document(
    ground: FederatedGround,
    rows: Sequence[RoundRow],
    server: Server,
    right: Sequence[bool],
    wall_ms: int,
) -> dict[str, Any]:
    """Return the content of ``result.json``.

    Parameters
    ----------
    ground, rows
        Of a run whose rounds are all done.
    server
        With the final global model.
    right
        Per test image, in order, whether the final model classifies it rightly.
    wall_ms
        Time that the run took on this machine.

    Returns
    -------
    dict
        ``config`` and ``identity``; ``data`` (images of the clients and the test, files);
        ``rounds``, a row each, with ``time_ns``, ``energy_pj`` and bytes from the start besides
        its own; ``test`` of the final model as in a training run's result; ``traffic`` of the
        whole run, and what it would be in FP32; ``simulated`` totals (None without an engine);
        ``rescale`` totals; ``weights_sha256`` of the global model; ``versions``; ``wall_ms``, the
        time taken on this machine.

    Notes
    -----
    Stops, kills, threads and back-ends change ``wall_ms`` alone, and in ``config`` the settings
    that were given so. What else may differ on another machine is as in
    :func:`experiments.training.result.result_document`: ``versions`` and those in ``identity``,
    the folder of the data in ``config``, the last digit of a ``loss``, with layers in FP32 what
    follows from the weights, and ``shares_sha256`` where images are shared out by Dirichlet, see
    :func:`experiments.datasets.splits.non_iid`: if that differs, all else does.
    """
    timed = ground.config.training.engine != "none"
    sizes = sorted(len(share) for share in ground.shares)
    total = Tally()
    for row in rows:
        total = total.joined(row.tally)
    made = _rows(rows, len(right), timed)
    return {
        "schema": SCHEMA,
        "kind": "federated",
        "note": NOTE,
        "config": ground.config.as_json(),
        "identity": ground.identity,
        "data": {
            "clients": len(sizes),
            "images": {
                "least": sizes[0],
                "median": sizes[len(sizes) // 2],
                "most": sizes[-1],
                "all": sum(sizes),
            },
            "test": len(right),
            "by_user": bool(ground.local.train.users),
            "files_sha256": dict(ground.local.train.sha256),
            "official": ground.local.train.official,
        },
        "rounds": made,
        "test": {
            "accuracy": sum(right) / len(right),
            "correct": sum(right),
            "images": len(right),
            "right_hex": np.packbits(np.array(right, np.bool_)).tobytes().hex(),
        },
        "traffic": {
            name: sum(getattr(row, name) for row in rows)
            for name in ("down_bytes", "up_bytes", "down_fp32_bytes", "up_fp32_bytes")
        },
        "simulated": {"time_ns": made[-1]["total_ns"], "energy_pj": total.energy_pj}
        if timed
        else None,
        "rescale": rescale_shares(total),
        "weights_sha256": model_sha256(server),
        "versions": versions(),
        "wall_ms": wall_ms,
    }


def model_sha256(server: Server) -> str:
    """Return the digest of the global model's arrays, bit for bit, with names and shapes."""
    digest = sha256()
    for group in (server.weights, server.statistics):
        for name, array in sorted(group.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _rows(rows: Sequence[RoundRow], images: int, timed: bool) -> list[dict[str, Any]]:
    made = []
    time_ns = energy_pj = sent = 0
    for row in rows:
        time_ns, energy_pj = time_ns + row.time_ns, energy_pj + row.tally.energy_pj
        sent += row.down_bytes + row.up_bytes
        made.append(
            {
                "round": row.number,
                "clients": list(row.clients),
                "steps": row.tally.steps,
                "loss": shown_loss(row.tally),
                "train_accuracy": row.tally.accuracy,
                "test_accuracy": None if row.correct is None else row.correct / images,
                "test_correct": row.correct,
                "stuck_share": row.stuck / max(1, row.moved),
                "down_bytes": row.down_bytes,
                "up_bytes": row.up_bytes,
                "total_bytes": sent,
                "slowest": row.slowest if timed else None,
                "time_ns": row.time_ns if timed else None,
                "training_ns": row.training_ns if timed else None,
                "energy_pj": row.tally.energy_pj if timed else None,
                "total_ns": time_ns if timed else None,
                "total_pj": energy_pj if timed else None,
                "rescale": rescale_shares(row.tally),
            }
        )
    return made
