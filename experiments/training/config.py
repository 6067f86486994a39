"""What a training run is told: everything that its result follows from, checked on entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

from experiments.values import short, whole

SCHEDULES = ("one-cycle", "step", "constant")
AUGMENTATIONS = ("crop", "flip")
PARTS = ("source", "target")
Q24 = 1 << 24
"""Unit of learning rates: they are integers from here on."""
INDIFFERENT = ("data", "threads", "backend", "checkpoint_every")
"""Settings that change no bit of the result, so a run may be continued with others."""
FINE_TUNING = ("last", "start", "part")
"""Settings that only a fine-tuning has."""
IMAGES = 1_000_000
"""Images of one split, at most; :data:`experiments.datasets.dataset.MOST_IMAGES` says why."""
INTEGERS = (
    *(("epochs", 1, 100_000), ("batch", 1, 4096), ("warmup", 0, 100)),
    *(("seed", 0, 2**63 - 1), ("checkpoint_every", 1, 10**9)),
)
OPTIONAL_INTEGERS = (("validation", 0, IMAGES), ("threads", 1, 1024), ("last", 1, 1000))
NUMBERS = (("rate", 16.0), ("momentum", 1.0), ("weight_decay", 2.0**-8))
"""Each from 0 to below this."""
TEXTS = ("model", "dataset", "plan", "device", "profile", "schedule", "engine", "scenario")
OPTIONAL_TEXTS = ("data", "backend", "start")
PAIRS = ("split_of_test", "sizes")


class ConfigError(ValueError):
    """A setting is not allowed; the message names it, its value and what is."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of a training run.

    Attributes
    ----------
    model, plan, device
        Names, or an ``.onnx``, ``.json`` and ``.yaml`` file.
    dataset, data
        Name of the data set, and the folder of its files where it has any.
    profile
        Arithmetic of the INT8 layers, see :data:`kernels.profiles.PROFILES`.
    epochs, batch
        Passes over the training images, and images per step; a ragged rest of an epoch is left
        out.
    rate
        Peak learning rate; None: :data:`experiments.training.ground.RATE`.
    schedule
        One of :data:`SCHEDULES`, see :mod:`experiments.training.schedule`.
    warmup
        Percent of all steps that ``one-cycle`` rises for.
    momentum, weight_decay
        Of SGD, where the profile has them.
    seed
        Of the initial weights, the order of the images, augmentation and all draws.
    augment
        Some of :data:`AUGMENTATIONS`; None: both for ``cifar10``, nothing for others.
    validation
        Images of the training part that are held out to choose the epoch by, the same for every
        seed, up to 1,000,000; None: a tenth; 0: none, and the last epoch is taken.
    split_of_test
        Where ``mnist`` has no training files: images of its test file to train and to test on.
    sizes
        Images of ``shapes32`` to train and to test on, up to 1,000,000 each.
    engine
        Times each step: ``compiled`` or ``simpy``; ``none`` computes without timing.
    scenario
        Circumstances of the phone, see :data:`sim.state.SCENARIOS`.
    trace
        Whether the shifts of all steps are kept, for ``rescale-trace.json``.
    threads, backend
        Of the kernels; they change no bit.
    checkpoint_every
        Steps between checkpoints; the end of an epoch makes one besides.
    last
        Convolutions that are trained, counted from the end, with all that comes after the first
        of them; None: everything. What lies before keeps its weights and gets no gradients.
    start
        Folder of a run whose chosen weights this one starts from; None: random ones.
    part
        One of :data:`PARTS`, to train and test on some classes, see
        :func:`experiments.datasets.splits.class_part`; None: on all.

    Raises
    ------
    ConfigError
        A value of another type, a number out of range, an empty text, or a name that is not among
        the known ones.
    """

    model: str
    dataset: str
    data: str | None = None
    plan: str = "mandheling"
    device: str = "snapdragon-865"
    profile: str = "sandbox"
    epochs: int = 10
    batch: int = 64
    rate: float | None = None
    schedule: str = "one-cycle"
    warmup: int = 25
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
    augment: tuple[str, ...] | None = None
    validation: int | None = None
    split_of_test: tuple[int, int] | None = None
    sizes: tuple[int, int] | None = None
    engine: str = "compiled"
    scenario: str = "quiet"
    trace: bool = False
    threads: int | None = None
    backend: str | None = None
    checkpoint_every: int = 200
    last: int | None = None
    start: str | None = None
    part: str | None = None

    def __post_init__(self) -> None:
        for name, low, high in (*INTEGERS, *OPTIONAL_INTEGERS):
            check_integer(self, name, low, high, optional=(name, low, high) in OPTIONAL_INTEGERS)
        for name, most in NUMBERS:
            value = getattr(self, name)
            if not (name == "rate" and value is None) and not _is_number(value, most):
                raise ConfigError(f"{name}: {short(value)}; allowed: from 0 to below {most:g}")
        if self.rate is not None and self.rate * Q24 < 1:
            raise ConfigError(f"rate: {self.rate!r}; the least is 2**-24, about 6e-8")
        for name in (*TEXTS, *OPTIONAL_TEXTS):
            value = getattr(self, name)
            absent = name in OPTIONAL_TEXTS and value is None
            if not absent and (not isinstance(value, str) or not value.strip()):
                raise ConfigError(f"{name}: {short(value)}; allowed: a text that is not empty")
        for name in PAIRS:
            _check_pair(name, getattr(self, name))
        if type(self.trace) is not bool:
            raise ConfigError(f"trace: {short(self.trace)}; allowed: True or False")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule: {short(self.schedule)}; allowed: {', '.join(SCHEDULES)}")
        if self.part is not None and self.part not in PARTS:
            raise ConfigError(f"part: {short(self.part)}; allowed: {', '.join(PARTS)}, or None")
        _check_augment(self.augment)

    def as_json(self) -> dict[str, Any]:
        """Return all settings as JSON has them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainConfig:
        """Return the settings that :meth:`as_json` gave; older runs lack those of fine-tuning.

        Raises
        ------
        ConfigError
            A setting is unknown, missing, or not allowed.
        """
        known = {field.name for field in fields(cls)}
        content = dict.fromkeys(FINE_TUNING) | dict(content)
        if content.keys() != known:
            names = sorted(content.keys() ^ known)
            raise ConfigError(f"settings {', '.join(names)}: missing, or not known to this version")
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in content.items()
        }
        return cls(**values)


def check_integer(
    config: object, name: str, low: int, high: int, *, optional: bool = False
) -> None:
    """Refuse a setting that is no integer of Python's from ``low`` to ``high``.

    Raises
    ------
    ConfigError
        It is another; None is refused as well unless ``optional``.
    """
    value = getattr(config, name)
    if optional and value is None:
        return
    if type(value) is not int or not low <= value <= high:  # JSON knows no others
        raise ConfigError(f"{name}: {short(value)}; allowed: an integer from {low} to {high}")


def _is_number(value: object, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < most and isfinite(value)


def _check_pair(name: str, value: object) -> None:
    if value is None:
        return
    counts = value if isinstance(value, tuple | list) else ()
    if len(counts) != 2 or any(whole(count, 1, IMAGES) is None for count in counts):
        raise ConfigError(
            f"{name}: {short(value)}; allowed: two integers from 1 to {IMAGES:,}, images to train "
            "and to test on"
        )


def _check_augment(value: object) -> None:
    names = value if isinstance(value, tuple | list) else () if value is None else (value,)
    for name in names:
        if name not in AUGMENTATIONS or isinstance(value, str):
            raise ConfigError(
                f"augment: {short(name)}; allowed: {', '.join(AUGMENTATIONS)}, in a tuple"
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words which entries differ: ``seed was 0 and is 1 now``."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            found.append(f"{name} was {_short(old)} and is {_short(new)} now")
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
