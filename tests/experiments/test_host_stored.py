"""``mandheling validate`` takes samples of plans that it would measure itself, and no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cost_models.samples import FORMAT, Fingerprint, Sample, SampleError, read_samples
from experiments.cli import app
from experiments.host.measured import MeasuredPlan
from experiments.host.stored import check_plans
from hw_bridge.samples import SampleStore

SAMPLES = read_samples(Path(__file__).parents[2] / "results" / "host.jsonl").samples
ONE = next(sample for sample in SAMPLES if sample.key == "predict/lenet/32x28/9")
HERE = Fingerprint("host", {"processor": "one"})
THERE = Fingerprint("host", {"processor": "two"})


def refused(*arguments: str) -> str:
    """Run a command that must be refused; return its one line."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, (result.stderr, result.exception)
    (line,) = result.stderr.splitlines()
    return line


def store_of(path: Path, *groups: tuple[Fingerprint, list[Sample]]) -> Path:
    for fingerprint, samples in groups:
        with SampleStore.open(path, fingerprint, mixed=True) as store:
            for sample in samples:
                store.add(sample)
    return path


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.pop(name)


def having(**changed: object) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.update(changed)


def put(name: str, place: int, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields.update(
        {name: [value if k == place else old for k, old in enumerate(fields[name])]}
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("use"), "config.use is nothing; allowed: "),
        (without("plan"), "config.plan is nothing"),
        (having(batch="x"), "config.batch is 'x'; allowed: 32 under this key"),
        (having(plan=-1), "config.plan is -1; allowed: 9 under"),
        (having(plan=9.0), "config.plan is 9.0; allowed: 9 under"),
        (having(model="vgg11"), "config.model is 'vgg11'; allowed: 'lenet' under"),
        (having(use="calibrate"), "config.use is 'calibrate'; allowed: 'predict' under"),
        (having(corner=1), "config.'corner' is 1; allowed: no such field"),
    ],
)
def test_a_configuration_is_the_one_of_its_key(
    change: Callable[[dict[str, Any]], None], said: str
) -> None:
    config = dict(ONE.config)
    change(config)
    with pytest.raises(SampleError) as error:
        check_plans([replace(ONE, config=config)])
    assert str(error.value).startswith(f"sample '{ONE.key}': {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("makespans_ns"), "makespans_ns is nothing; allowed: all of makespans_ns, kinds"),
        (without("equal"), "equal is nothing"),
        (having(equal="no"), "equal is 'no'; allowed: true or false"),
        (having(cold=1), "'cold' is 1; allowed: makespans_ns, kinds, kind, kept, equal only"),
        (having(makespans_ns=[]), "makespans_ns is []; allowed: 12 integers"),
        (having(makespans_ns="x"), "makespans_ns is 'x'"),
        (put("makespans_ns", 0, 1e300), "makespans_ns[0] is 1e+300"),
        (put("makespans_ns", 0, 1), "makespans_ns[0] is 1; allowed: "),
        (put("makespans_ns", 0, -5), "makespans_ns[0] is -5"),
        (put("makespans_ns", 0, 2**63), "makespans_ns[0] is 9223372036854775808"),
        (having(kinds=[]), "kinds is []"),
        (having(kinds=5), "kinds is 5"),
        (having(kinds=[["z", "0"]]), "kinds[0] is ['z', '0']; allowed: 1 to 12 different pairs"),
        (having(kinds=[["d", "0"], ["d", "0"]]), "kinds is [['d', '0'], ['d', '0']]"),
        (put("kind", 0, 99), "kind is [99, "),
        (put("kind", 0, "a"), "kind[0] is 'a'"),
        (put("kind", 0, True), "kind[0] is True"),
        (having(kept=[]), "kept is []; allowed: ["),
        (having(kept=[99]), "kept is [99]"),
        (having(kept=["a"]), "kept is ['a']"),
    ],
)
def test_conditions_are_those_that_measuring_gives(
    change: Callable[[dict[str, Any]], None], said: str
) -> None:
    conditions = dict(ONE.conditions)
    change(conditions)
    with pytest.raises(SampleError) as error:
        check_plans([replace(ONE, conditions=conditions)])
    assert str(error.value).startswith(f"sample '{ONE.key}': conditions.{said}")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"unit": "packets"}, "unit is 'packets'; allowed: ns"),
        ({"kind": "kernel"}, "kind is 'kernel'; allowed: plan"),
        ({"key": "predict/lenet/again"}, "key: no plan of this study"),
    ],
)
def test_another_thing_is_no_plan(changed: dict[str, str], said: str) -> None:
    with pytest.raises(SampleError, match=said):
        check_plans([ONE, replace(ONE, **changed)])  # type: ignore[arg-type]


def test_ends_that_no_run_has_are_refused() -> None:
    kinds: Any = [[letters, misses + "0"] for letters, misses in ONE.conditions["kinds"]]  # type: ignore
    early = replace(ONE, raw=(*ONE.raw[:20], 0, *ONE.raw[21:]))
    for sample, said in (
        (replace(ONE, raw=(*ONE.raw, 7)), "raw has .* ends, and the plan"),
        (replace(ONE, raw=(5,) * len(ONE.raw)), "ends at 5, and conditions.makespans_ns"),
        (early, "ends at 0, before it can begin"),
        (replace(ONE, conditions={**ONE.conditions, "kinds": kinds}), r"kinds\[0\] has .* misses"),
    ):
        with pytest.raises(SampleError, match=said):
            list(MeasuredPlan(sample).kept())


def test_samples_of_two_machines_are_refused(tmp_path: Path) -> None:
    path = store_of(tmp_path / "s.jsonl", (HERE, [ONE]), (THERE, [SAMPLES[0]]))
    told = refused("validate", "--samples", str(path))
    assert "samples are of 2 machines (processor: two, not one); allowed: one" in told
    other = store_of(tmp_path / "b.jsonl", (Fingerprint("board", {}), [ONE]))
    told = refused("validate", "--samples", str(other))
    assert "fingerprint.backend is 'board'; allowed: host" in told


def test_a_part_of_the_plans_is_told_in_a_short_line(tmp_path: Path) -> None:
    few = [s for s in SAMPLES if s.config["model"] in ("lenet", "vgg13")][:9]
    path = store_of(tmp_path / "s.jsonl", (HERE, few))
    told = refused("validate", "--samples", str(path))
    count = f"9 of {len(SAMPLES)} visits are measured"
    assert told == f"error: {count}; go on with validate --measure"


@pytest.mark.parametrize("name", ["x.xyz", "x", "x.PNG.txt"])
def test_a_picture_that_cannot_be_drawn_is_refused_first(tmp_path: Path, name: str) -> None:
    left = tmp_path / "left.json"
    told = refused("validate", "--plot", str(tmp_path / name), "-o", str(left))
    assert "its name must end in one of .png, .svg, .pdf" in told
    same = str(tmp_path / "one.svg")
    assert "is the same file" in refused("validate", "--plot", same, "-o", same)
    assert not [*tmp_path.iterdir()]


def test_a_machine_that_cannot_measure_leaves_no_store(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        told = refused("validate", "--measure", "--samples", str(tmp_path / "new.jsonl"))
    finally:
        os.sched_setaffinity(0, cores)
    assert "needs 2 cores" in told
    assert not [*tmp_path.iterdir()]


def test_measuring_does_not_begin_on_a_store_of_other_samples(tmp_path: Path) -> None:
    from hw_bridge.host import host_fingerprint

    wrong = replace(ONE, conditions={**ONE.conditions, "kept": []})
    path = store_of(tmp_path / "s.jsonl", (host_fingerprint(), [wrong]))
    before = path.read_bytes()
    assert "conditions.kept is []" in refused("validate", "--measure", "--samples", str(path))
    assert path.read_bytes() == before


def test_a_key_that_hides_its_line_is_refused(tmp_path: Path) -> None:
    path = store_of(tmp_path / "s.jsonl", (HERE, []))
    with path.open("ab") as file:
        file.write(FORMAT.line({"sample": {**ONE.document(), "key": "a\n\x1b[2K"}}))
    told = refused("validate", "--samples", str(path))
    assert r"line 3: sample.key is 'a\n\x1b[2K'; give a printable name" in told
