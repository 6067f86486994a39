"""What every test may rely on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernels.gemm.backends import NAMES, available_backends, lacking

# A script that runs the tests in the background ignores Ctrl-C, and every child would with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install distributions of one module each, found like any other until the test is over."""

    def install(name: str, module: str, text: str, group: str, **entries: str) -> Path:
        folder = tmp_path / f"site-{name}"
        about = folder / f"{name.replace('-', '_')}-1.5.dist-info"
        about.mkdir(parents=True)
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [f"{key} = {module}:{value}" for key, value in entries.items()]
        (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return install


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--figures``: what `make accept` keeps of its tests."""
    parser.addoption("--figures", type=Path, help="write outcomes and counts of the tests as JSON")


def pytest_report_header() -> str:
    """Name the INT8 back-ends that the tests exercise on this CPU, and those they do not."""
    absent = [f"{name} (needs {missing})" for name in NAMES if (missing := lacking(name))]
    header = f"INT8 back-ends: {', '.join(available_backends())}"
    return f"{header}; not exercised: {', '.join(absent)}" if absent else header


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Write the figures of a whole run; one that was broken off leaves the file as it was."""
    path = config.getoption("figures")
    if path is None or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    found = {
        report.nodeid: {"outcome": outcome, **dict(report.user_properties)}
        for outcome in ("passed", "failed", "skipped")
        for report in _reports(terminalreporter, outcome)
    }
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _reports(reporter: pytest.TerminalReporter, outcome: str) -> Iterator[pytest.TestReport]:
    for report in reporter.stats.get(outcome, []):
        if isinstance(report, pytest.TestReport):
            yield report
