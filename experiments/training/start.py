"""The weights that a fine-tuning starts from: those that an earlier run chose, as float32."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.training import checkpoint
from experiments.training.config import ConfigError
from sim.numeric.parameters import Parameters
from sim.numeric.trained import floats_of
from sim.numeric.values import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Trained tensors and running statistics by name, whatever precision they were trained in.

    ``folder`` is where they come from.
    """

    folder: Path
    tensors: dict[str, Floats]
    statistics: dict[str, tuple[Floats, Floats]]

    def sha256(self) -> str:
        """Digest of all names and bits."""
        digest = hashlib.sha256()
        named = [*self.tensors.items()]
        for layer, pair in self.statistics.items():
            named += [(f"{layer}:{k}", array) for k, array in enumerate(pair)]
        for name, array in sorted(named, key=lambda pair: pair[0]):
            digest.update(f"{name} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def give(self, parameters: Parameters) -> None:
        """Set parameters to these weights, at rest.

        Raises
        ------
        ConfigError
            The network has other tensors, or a tensor has another shape.
        """
        wanted = {name: each.floats().shape for name, each in parameters.trained.items()}
        found = {name: array.shape for name, array in self.tensors.items()}
        differ = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        if differ or self.statistics.keys() != parameters.statistics.keys():
            name = differ[0] if differ else "running statistics"
            raise ConfigError(
                f"start: {self.folder} holds {name} of shape {found.get(name)}, this network has "
                f"{wanted.get(name)}; give a run of the same model and number of classes"
            )
        parameters.load_floats(self.tensors)
        for layer, (mean, variance) in self.statistics.items():
            mine = parameters.statistics[layer]
            mine[0][...], mine[1][...] = mean, variance


def start_weights(folder: Path) -> Weights:
    """Read the weights that the run in a folder has chosen so far.

    Raises
    ------
    CheckpointError
        There is no run, or its checkpoint cannot be used.
    ConfigError
        Its first epoch is not done.
    """
    kept = checkpoint.load(folder / checkpoint.NAME).arrays.get("best", {})
    if not kept:
        raise ConfigError(f"start: the run in {folder} has chosen no weights yet; let it go on")
    parts: dict[str, dict[str, Floats]] = {}
    for key, array in kept.items():
        name, _, part = key.rpartition(":")
        parts.setdefault(name, {})[part] = array
    statistics = {n: (p["mean"], p["variance"]) for n, p in parts.items() if "mean" in p}
    trained = {n: p for n, p in parts.items() if n not in statistics and "bases" not in p}
    tensors = {name: floats_of(part) for name, part in trained.items()}
    return Weights(folder, tensors, statistics)
