"""Fixtures of the Hexagon tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hexagon_cases import open_runner

from hw_bridge.hexagon.runner import Runner


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """One process for all tests of a session: it must outlive every refusal."""
    yield from open_runner()
