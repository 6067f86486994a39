"""What the trainings of this folder share: data, an epoch, and a score with its confidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from experiments.datasets.dataset import Dataset
from experiments.datasets.loading import load_splits
from experiments.datasets.pipeline import Batches
from experiments.datasets.splits import split_validation
from experiments.training.config import ConfigError, check_integer
from experiments.training.ground import AUGMENTED, VALIDATION_SPLIT_SEED
from experiments.training.loop import TrainingError
from experiments.training.schedule import Schedule, rate_to_q24
from sim.numeric.session import TrainingSession


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that both trainings have.

    Attributes
    ----------
    dataset, data
        Name of the data set, and the folder of its files where it has any.
    epochs
        Passes over the training images; of each increment, or in all.
    batch
        Images per step.
    rate
        Peak learning rate of a one-cycle schedule.
    seed
        Of initial weights, order and augmentation.
    validation
        Images held out of the training part.
    threads
        Of the kernels; they change no bit of integer layers.
    device
        Device that the expected step times are of.
    sizes
        Images of ``shapes32`` to train and to test on.

    Raises
    ------
    ConfigError
        A number out of range.
    """

    dataset: str
    data: str | None = None
    epochs: int = 4
    batch: int = 64
    rate: float = 0.02
    seed: int = 0
    validation: int = 1000
    threads: int | None = None
    device: str = "odroid-xu3"
    sizes: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_integer(self, "epochs", 1, 100_000)
        check_integer(self, "batch", 1, 4096)
        check_integer(self, "seed", 0, 2**63 - 1)
        check_integer(self, "validation", 0, 1_000_000)
        check_integer(self, "threads", 1, 1024, optional=True)
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float):
            raise ConfigError(f"rate: {self.rate!r}; allowed: a number above 0, up to 1")
        if not 0 < self.rate <= 1:
            raise ConfigError(f"rate: {self.rate!r}; allowed: a number above 0, up to 1")

    def identity(self) -> dict[str, Any]:
        """Settings that the result follows from."""
        names = ("dataset", "epochs", "batch", "rate", "seed", "validation", "device")
        found = {name: getattr(self, name) for name in names}
        return found | {"sizes": None if self.sizes is None else list(self.sizes)}

    def schedule(self, batches: int) -> Schedule:
        """Learning rates of all steps, for so many batches in an epoch."""
        return Schedule("one-cycle", rate_to_q24(self.rate), self.epochs * batches)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The splits of a training; ``validation`` is None where nothing is held out."""

    train: Dataset
    validation: Dataset | None
    test: Dataset

    @classmethod
    def load(cls, settings: Settings, shape: tuple[int, int, int]) -> Data:
        """Load the data set in a shape ``(h, w, c)``.

        Raises
        ------
        ConfigError
            No whole batch is left to train on.
        ValueError
            From the data set's loader.
        """
        train, test = load_splits(
            settings.dataset, settings.data, shape=shape, sizes=settings.sizes
        )
        held = settings.validation
        if len(train) - held < settings.batch:
            raise ConfigError(
                f"validation: {held} of {len(train)} images leave no batch of {settings.batch} to "
                "train on; hold out fewer or take a smaller batch"
            )
        validation = None
        if held:
            train, validation = split_validation(train, held, VALIDATION_SPLIT_SEED)
        return cls(train, validation, test)

    def epoch(self, settings: Settings, epoch: int, first: int = 0) -> Batches:
        """The training batches of an epoch, from batch ``first`` on."""
        augment = AUGMENTED.get(settings.dataset, ())
        return Batches(self.train, settings.batch, settings.seed, epoch, augment, first=first)

    def digests(self) -> dict[str, str]:
        """Digests of what is trained and tested on."""
        return {"train_sha256": self.train.digest(), "test_sha256": self.test.digest()}


@dataclass(frozen=True, slots=True)
class Score:
    """How well images are classified.

    Attributes
    ----------
    correct, images
        Images classified rightly, and all.
    confidence
        Sum over the images of the probability given to the right class.
    """

    correct: int
    images: int
    confidence: float

    @property
    def accuracy(self) -> float:
        """Share that is right, 0 to 1."""
        return self.correct / self.images

    def document(self) -> dict[str, Any]:
        """The score as JSON values."""
        return {
            "correct": self.correct,
            "images": self.images,
            "accuracy": self.accuracy,
            "confidence": round(self.confidence, 3),
        }


def train_epoch(
    session: TrainingSession,
    batches: Batches,
    schedule: Schedule,
    epoch: int,
    *,
    before_last: Callable[[], None] = lambda: None,
) -> float:
    """Train on the batches of an epoch; return the mean loss.

    Parameters
    ----------
    schedule
        Learning rates of the whole training.
    before_last
        Called before the last batch.

    Raises
    ------
    TrainingError
        The loss is no number any more.
    """
    losses = []
    for number, (images, labels) in enumerate(batches):
        if number == len(batches) - 1:
            before_last()
        rate = schedule.rate_q24(epoch * len(batches) + number)
        step = session.step(images, labels, rate_q24=rate, epoch=epoch)
        if not isfinite(step.result.loss):
            raise TrainingError(
                f"epoch {epoch}, step {number}: the loss is {step.result.loss_text}; "
                "take a smaller rate"
            )
        losses.append(step.result.loss)
    return float(np.mean(losses))


def score(session: TrainingSession, dataset: Dataset, batch: int) -> Score:
    """Classify a data set as the session's parameters are now."""
    correct, confidence = 0, 0.0
    size = min(batch, len(dataset))
    for images, labels in Batches(dataset, size, 0, 0, (), False, shuffle=False):
        logits = session.executor.predict(images).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        right = odds[np.arange(len(labels)), labels] / odds.sum(axis=1)
        correct += int((logits.argmax(1) == labels).sum())
        confidence += float(right.sum())
    return Score(correct, len(dataset), confidence)
