"""Recorded rescaling of real training runs: what accuracy risk is estimated from.

``recorded.json`` beside this module holds, for each rescaled tensor of two short trainings, the
true shift of every step (of a run that scans in each step), what shifts that were off by some
bits did to its values (counted in runs of stale rules), and the same for each rule that follows
the tensor in every step without a scan, in a run of its own. It says what it was recorded under
(:func:`conditions_sha256`) and is refused under anything else, since its shifts and counts would
be those of other rules or another arithmetic.
``python -m experiments.search.recorded --runs DIR`` trains those runs again and writes the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from experiments.accuracy import with_one_rule
from experiments.told import STOPPED, one_line_errors
from experiments.training.config import TrainConfig
from experiments.training.folder import TRACE
from experiments.training.loop import train
from kernels.profiles import PROFILES
from sim.files import write_atomic
from sim.numeric.records import RescaleTrace, load_trace
from sim.rescaling import parse_rule

FILE = Path(__file__).with_name("recorded.json")
SCHEMA = 2
RENEW = "record it again with python -m experiments.search.recorded --runs DIR"
PROBE = (8, 8, 9, 9, 9, 7, 8, 8, 8, 8, 10, 9, 9, 9, 9, 9) * 8
"""True shifts that rules are tried on, to tell whether they still do what they did."""
SETTLED = 256
"""Steps from which on anything is counted: the periods of adaptive rules have grown by then."""
TRUE_RULE = "every"
STALE_RULES = ("fixed:16", "fixed:64")
"""They err to either side, and do not upset the training whose values are counted."""
FOLLOWING_RULES = ("hindsight", "delayed:4")
"""Rules that use the largest sums of the steps just before. What they do to a step changes the
next shifts at once, which no replay shows: they are counted closed-loop."""
ROLES = ("forward", "input_grad", "weight_grad")
DEPTHS = ("first", "middle", "last")
CONFIGS = {
    "lenet": TrainConfig("lenet", "digits", epochs=60, engine="none", trace=True),
    "vgg11": TrainConfig("vgg11", "shapes32", epochs=5, engine="none", trace=True),
}
"""Trainings on the two data sets that need no files."""

Met = Mapping[int, tuple[int, int, int]]
"""By shift error (used minus true, bits): tensor-steps, saturated values, lost values."""


class RecordingError(ValueError):
    """The recording in the package cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One rescaled tensor of a recorded training.

    Attributes
    ----------
    subject
        Its name in plans, such as ``conv2.weight_grad``.
    role, depth
        One of :data:`ROLES`, and of :data:`DEPTHS` by the place of its layer.
    shifts
        True shift of each step.
    values
        Values in the tensor.
    met
        What shift errors did to them under :data:`STALE_RULES`.
    followed
        The same under each of :data:`FOLLOWING_RULES`.
    """

    subject: str
    role: str
    depth: str
    shifts: tuple[int, ...]
    values: int
    met: Met
    followed: Mapping[str, Met]


@dataclass(frozen=True, slots=True)
class Recording:
    """A training whose rescaling was recorded; ``tensors`` by subject."""

    model: str
    dataset: str
    batch: int
    profile: str
    tensors: Mapping[str, TensorRecord]


def role_of(subject: str) -> str:
    """Return the role of a rescaled tensor, one of :data:`ROLES`."""
    last = subject.rpartition(".")[2]
    return last if last in ROLES else "forward"


def depths(layers: Sequence[str]) -> dict[str, str]:
    """Return the depth class of each layer with MACs, given in the order of the forward pass."""
    found = dict.fromkeys(layers, "middle")
    return {**found, layers[-1]: "last", layers[0]: "first"} if layers else found


def met_errors(traces: Sequence[RescaleTrace], subject: str) -> Met:
    """Return what shift errors did to a tensor, summed over some runs of stale rules."""
    met: dict[int, tuple[int, int, int]] = {}
    for trace in traces:
        for true, used, _, saturated, lost, _ in trace.rows[subject][SETTLED:]:
            steps, clipped, gone = met.get(used - true, (0, 0, 0))
            met[used - true] = steps + 1, clipped + saturated, gone + lost
    return dict(sorted(met.items()))


def recording(
    config: TrainConfig,
    true: RescaleTrace,
    stale: Sequence[RescaleTrace],
    followed: Mapping[str, RescaleTrace],
) -> dict[str, Any]:
    """Return the runs of one training as the file has them."""
    layers = [s for s in true.rows if role_of(s) == "forward"]
    return {
        "model": config.model,
        "dataset": config.dataset,
        "batch": config.batch,
        "profile": config.profile,
        "epochs": config.epochs,
        "seed": config.seed,
        "layers": layers,
        "tensors": {
            subject: {
                "shifts": _packed([row[0] for row in rows]),
                "values": rows[0][5],
                "met": _met_json(met_errors(stale, subject)),
                "followed": {
                    rule: _met_json(met_errors([trace], subject))
                    for rule, trace in followed.items()
                },
            }
            for subject, rows in true.rows.items()
        },
    }


def _met_json(met: Met) -> dict[str, list[int]]:
    return {str(error): list(counts) for error, counts in met.items()}


def _met(content: Mapping[str, Sequence[int]]) -> Met:
    return {int(error): (steps, clipped, gone) for error, (steps, clipped, gone) in content.items()}


def _packed(shifts: Sequence[int]) -> str:
    """Return the least shift, and a letter for each step's distance from it."""
    least = min(shifts)
    return f"{least}:" + "".join(chr(ord("a") + shift - least) for shift in shifts)


def _unpacked(text: str) -> tuple[int, ...]:
    least, _, letters = text.partition(":")
    return tuple(int(least) + ord(letter) - ord("a") for letter in letters)


@cache
def recordings() -> tuple[Recording, ...]:
    """Return the trainings in the package.

    Raises
    ------
    RecordingError
        The file is missing, or not what was shipped; or it was recorded under other rules,
        settled steps or arithmetic than this version has.
    """
    try:
        content = json.loads(FILE.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, and this version reads {SCHEMA}")
        found = tuple(_recording(each) for each in content["recordings"])
        stated = str(content["conditions_sha256"])
        here = conditions_sha256(one.profile for one in found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"{FILE}: no recording can be read ({error!r:.120}); install the package again, or "
            f"{RENEW}"
        ) from error
    if stated != here:
        raise RecordingError(
            f"{FILE}: conditions_sha256 is {stated[:12]}..., and {here[:12]}... stands for the "
            "rescale rules, settled steps and numeric profiles of this version: what was recorded "
            f"does not hold for them; {RENEW}"
        )
    return found


def conditions_sha256(profiles: Iterable[str]) -> str:
    """Return the digest of what recordings depend on besides their trainings' settings.

    That is: the rules that they were made under and what these do on a fixed row of shifts, the
    steps that are left out, and the arithmetic of their numeric profiles. It does not cover the
    code of the kernels, whose results are fixed by tests bit for bit.

    Raises
    ------
    KeyError
        There is no profile of a name.
    """
    rules = (TRUE_RULE, *STALE_RULES, *FOLLOWING_RULES)
    arithmetic = {name: asdict(PROFILES[name]) for name in profiles}
    for profile in arithmetic.values():
        del profile["source"]  # prose
    text = json.dumps(
        {
            "settled": SETTLED,
            "rules": {rule: _behaviour(rule) for rule in rules},
            "profiles": arithmetic,
        },
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _behaviour(rule: str) -> list[tuple[str, int]]:
    """What a rule does in each step of :data:`PROBE`, and the shift that it uses."""
    follows, steps = parse_rule(rule), list[tuple[str, int]]()
    state = follows.start()
    for true in PROBE:
        steps.append((follows.mode(state), state.used))
        state = follows.next(state, true)
    return steps


def file_sha256() -> str:
    """Return the digest of the recording in the package: estimates follow from it."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()


def _recording(content: Mapping[str, Any]) -> Recording:
    layer_depth = depths(content["layers"])
    tensors = {}
    for subject, each in content["tensors"].items():
        role = role_of(subject)
        depth = layer_depth[subject.removesuffix(f".{role}")]
        tensors[subject] = TensorRecord(
            subject,
            role,
            depth,
            _unpacked(each["shifts"]),
            each["values"],
            _met(each["met"]),
            {rule: _met(met) for rule, met in each["followed"].items()},
        )
    return Recording(
        content["model"], content["dataset"], content["batch"], content["profile"], tensors
    )


def run_name(config: TrainConfig, rule: str) -> str:
    """Return the name of a run with one rescale rule for every tensor: of its folder, its plan."""
    return f"{config.model}-{rule.replace(':', '-')}-seed{config.seed}"


def trained(config: TrainConfig, rule: str, runs: Path) -> tuple[RescaleTrace, float]:
    """Train with one rescale rule for every tensor, unless that was done.

    Returns
    -------
    tuple
        The trace, and the test accuracy.
    """
    name = run_name(config, rule)
    result = train(with_one_rule(config, rule, runs / f"{name}.plan.json"), runs / name)
    return load_trace(runs / name / TRACE), float(result["test"]["accuracy"])


def record(runs: Path, threads: int | None = None) -> dict[str, Any]:
    """Train the runs of :data:`CONFIGS` in a folder; return the content of the file."""
    found = []
    for config in CONFIGS.values():
        settings = replace(config, threads=threads)
        true, _ = trained(settings, TRUE_RULE, runs)
        stale = [trained(settings, rule, runs)[0] for rule in STALE_RULES]
        followed = {rule: trained(settings, rule, runs)[0] for rule in FOLLOWING_RULES}
        found.append(recording(config, true, stale, followed))
    return content_of(found)


def content_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of the file, given what :func:`recording` returns of each training."""
    return {
        "schema": SCHEMA,
        "conditions_sha256": conditions_sha256(one["profile"] for one in found),
        "settled": SETTLED,
        "rules": {"true": TRUE_RULE, "stale": STALE_RULES, "followed": FOLLOWING_RULES},
        "recordings": found,
    }


def write(content: Mapping[str, Any]) -> None:
    """Write the file, whole or not at all; compact, as nobody edits it."""
    write_atomic(FILE, json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.search.recorded", description=__doc__
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/risk"), help="folder of runs")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    options = parser.parse_args(arguments)
    write(record(options.runs, options.threads))
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
