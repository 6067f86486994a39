"""Fixtures of the board's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_cases import Device, make_device


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A Linux board with everything in place."""
    return make_device(tmp_path, monkeypatch)


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """The same with Android's dynamic linker and library names."""
    return make_device(tmp_path, monkeypatch, "android")
