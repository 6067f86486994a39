"""What every ``python -m experiments...`` owes: errors in one line, and a clean stop."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import finetune, half_precision
from experiments.cli_common import STOPPED, CliError, one_line_errors
from experiments.values import is_own

ROOT = Path(__file__).parents[2]
CONSOLE_SCRIPT = "cli.py"
"""It has a frame of its own, for signals too."""


def commands() -> list[Path]:
    """Modules that python -m runs, and that have a ``main``."""
    found = []
    for path in sorted((ROOT / "experiments").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text and "def main(" in text and path.name != CONSOLE_SCRIPT:
            found.append(path)
    return found


@pytest.mark.parametrize("path", commands(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_tells_errors_in_one_line(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (main,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    assert any("one_line_errors" in ast.unparse(each) for each in main.decorator_list)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CliError("--batch 0: give\n1 or more"), 2, "error: --batch 0: give 1 or more\n"),
        (OSError(28, "No space left on device", "a.json"), 2, "error: a.json: No space left on "),
        (MemoryError(), 2, "error: not enough memory on this machine"),
        (KeyboardInterrupt(), 130, "halted\n"),
    ],
)
def test_errors_and_stops_are_one_line_and_a_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @one_line_errors("halted")
    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert told.count("\n") == 1


def test_faults_of_ours_and_results_come_through() -> None:
    @one_line_errors()
    def main(fault: bool) -> int:
        if fault:
            raise ValueError("of a library")
        return 1

    assert main(False) == 1
    with pytest.raises(ValueError, match="of a library"):
        main(True)


def test_errors_of_the_module_that_is_run_are_ours_too(tmp_path: Path) -> None:
    words = ["--trace", str(tmp_path / "none.json")]
    module = "experiments.search.risk_study"
    done = subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    script = type("OddError", (ValueError,), {"__module__": "__main__"})
    assert not is_own(script("of a user's script"))


@pytest.mark.parametrize("module", [finetune, half_precision])
def test_trainings_tell_what_is_wrong_and_how_to_go_on(
    module: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def ended(words: list[str]) -> object:
        with pytest.raises(SystemExit) as stopped:
            module.main(words)  # type: ignore[attr-defined]
        return stopped.value.code

    assert ended(["--cifar10", "no-such"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "no-such" in told
    assert ended(["--epochs", "0"]) == 2
    assert "epochs: 0" in capsys.readouterr().err

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_all", interrupted)
    assert ended([]) == 130
    assert capsys.readouterr().err == f"{STOPPED}\n"
