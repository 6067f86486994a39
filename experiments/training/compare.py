"""Two runs side by side: is one more accurate, and which gets to an accuracy first?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.training.result import SCHEMA

LEVEL = 0.95


class ComparisonError(ValueError):
    """Two results cannot be compared; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class AccuracyDifference:
    """Accuracy of a second run minus that of a first, on the same test images.

    Attributes
    ----------
    first, second
        Test accuracies, 0 to 1.
    difference, low, high
        ``second - first`` and its interval.
    only_first, only_second
        Images that one run alone has right.
    images
        Test images.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    images: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Reached:
    """The end of the first epoch whose validation accuracy reaches a target, simulated."""

    epoch: int
    time_ns: int
    energy_pj: int


def read_training_result(path: Path) -> dict[str, Any]:
    """Read a ``result.json``, or that of a run's folder.

    Raises
    ------
    ComparisonError
        It is not there, no JSON, or of another schema.
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{file}: no result can be read ({error}); train it first") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ComparisonError(f"{file}: is no training result of schema {SCHEMA}")
    return content


def accuracy_difference(
    first: dict[str, Any], second: dict[str, Any], level: float = LEVEL
) -> AccuracyDifference:
    """Compare two runs on the test images that both saw.

    The interval is that of the paired percentile bootstrap over images (B. Efron and R.
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13), with the distribution over
    all resamples computed instead of drawn: nothing depends on a seed.

    Parameters
    ----------
    first, second
        Contents of ``result.json``.
    level
        Of the interval, above 0 and below 1.

    Raises
    ------
    ComparisonError
        The runs were tested on different images, or their bits do not fit the number of images.

    Examples
    --------
    >>> one = {"test": {"images": 8, "right_hex": "f0"}, "identity": {"test_sha256": ""}}
    >>> two = {"test": {"images": 8, "right_hex": "fe"}, "identity": {"test_sha256": ""}}
    >>> found = accuracy_difference(one, two)
    >>> found.difference, found.low, found.high, found.clear
    (0.375, 0.125, 0.75, True)
    """
    if first["identity"]["test_sha256"] != second["identity"]["test_sha256"]:
        raise ComparisonError("test_sha256: the runs were tested on different images")
    if not 0 < level < 1:
        raise ComparisonError(f"level: {level}; allowed: above 0 and below 1")
    a, b = _right(first), _right(second)
    images = len(a)
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    low, high = _interval(only_first, only_second, images, level)
    return AccuracyDifference(
        first=float(a.mean()),
        second=float(b.mean()),
        difference=(only_second - only_first) / images,
        low=low,
        high=high,
        only_first=only_first,
        only_second=only_second,
        images=images,
    )


def reached(result: dict[str, Any], accuracy: float) -> Reached | None:
    """Return when a run's validation accuracy first reaches ``accuracy``; None if never.

    Raises
    ------
    ComparisonError
        The run held no validation images out, or was not timed.
    """
    rows = result["epochs"]
    if rows[0]["validation_accuracy"] is None or rows[0]["time_ns"] is None:
        raise ComparisonError(
            "epochs: no validation accuracy or no simulated time; train with --validation above 0 "
            "and an engine"
        )
    for row in rows:
        if row["validation_accuracy"] >= accuracy:
            return Reached(row["epoch"], row["time_ns"], row["energy_pj"])
    return None


def _right(result: dict[str, Any]) -> NDArray[np.bool_]:
    test = result["test"]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(test["right_hex"]), np.uint8))
    images = int(test["images"])
    if not 0 < images <= len(bits) < images + 8:
        raise ComparisonError(f"test.right_hex: has {len(bits)} bits for {images} images")
    return bits[:images].astype(np.bool_)


def _interval(only_first: int, only_second: int, images: int, level: float) -> tuple[float, float]:
    """Percentiles of the mean of ``images`` draws from the paired differences -1, 0 and 1.

    Its distribution is the n-fold convolution of one draw's, by the discrete Fourier transform.
    """
    size = 2 * images + 1
    turn = np.exp(-2j * np.pi * np.arange(size) / size)
    same = images - only_first - only_second
    one = (same + only_second * turn + only_first * turn.conj()) / images
    mass = np.fft.ifft(one**images).real.clip(0)  # of sums 0 .. images, then -images .. -1
    cumulative = np.cumsum(np.roll(mass, images))
    tail = (1 - level) / 2
    ends = np.searchsorted(cumulative, [tail, 1 - tail])
    low, high = ((int(end) - images) / images for end in ends)
    return low, high
