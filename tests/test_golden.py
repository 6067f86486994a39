"""Golden integers: the file is what the code computes now, and the command says what moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import golden


@pytest.fixture(scope="module")
def now() -> golden.Golden:
    return golden.measure()


def test_nothing_moved(now: golden.Golden) -> None:
    lines = golden.moved(golden.read(), now)
    assert not lines, (
        "golden integers moved; if that is intended, run `python -m experiments.golden` and "
        "explain the difference in review:\n" + "\n".join(lines)
    )


def test_the_file_is_canonical(now: golden.Golden) -> None:
    assert golden.PATH.read_text(encoding="utf-8") == golden.to_json(now)


def test_cases_cover_models_devices_and_plans(now: golden.Golden) -> None:
    assert len(now) == len(list(golden.cases())) == len(set(golden.cases()))
    for word in (*golden.MODELS, *golden.DEVICES, *golden.PLANS, *golden.SEARCHED):
        assert any(word in case for case in now)
    assert not any("laptop / dsp" in case for case in now)
    for values in now.values():
        assert list(values) == ["makespan_ns", "energy_pj", "peak_bytes"]
        assert min(values.values()) > 0


def test_lines_name_what_moved() -> None:
    before = {"a": {"makespan_ns": 100, "peak_bytes": 5}, "b": {"makespan_ns": 1}}
    after = {"a": {"makespan_ns": 110, "peak_bytes": 5}, "c": {"makespan_ns": 1}}
    assert golden.moved(before, after) == [
        "a: makespan_ns 100 -> 110 (+10.00 %)",
        "b: gone",
        "c: new",
    ]
    assert golden.moved(after, after) == []
    assert golden.moved({"a": {}}, {"a": {"makespan_ns": 4}}) == ["a: makespan_ns new, 4"]
    assert golden.moved({"a": {"x": 0}}, {"a": {"x": 4}}) == ["a: x 0 -> 4 (was 0)"]


def test_command(
    tmp_path: Path,
    now: golden.Golden,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(golden, "measure", lambda: now)
    file = tmp_path / "new" / "steps.json"
    assert golden.main(["--check", "--file", str(file)]) == 1
    assert not file.exists()
    assert golden.main(["--file", str(file)]) == 0
    assert capsys.readouterr().out.count(": new\n") == 2 * len(now)
    assert golden.main(["--check", "--file", str(file)]) == 0
    assert capsys.readouterr().out == f"nothing moved in {len(now)} cases\n"
    assert golden.read(file) == now
