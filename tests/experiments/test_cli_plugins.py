"""``mandheling plugins`` puts searchers of other distributions through their checks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import cli
from experiments.search.registry import SEARCHERS

GREEDY = '''
from experiments.search import Searcher

class Greedy(Searcher):
    """Asks for more than it may. It is wrong."""

    def ask(self, n):
        return self.space.random(n + 1, self.seed)

    def tell(self, batch, values):
        pass
'''


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["mandheling", "plugins", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_a_searcher_that_breaks_a_rule_is_told(
    installed: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed("their-search", "their_search", GREEDY, SEARCHERS.group, greedy="Greedy", gone="No")
    assert run(monkeypatch, "greedy", "--json") == 1
    (row,) = json.loads(capsys.readouterr().out)["plugins"]
    assert (row["kind"], row["name"], row["from"]) == ("searcher", "greedy", "their-search 1.5")
    assert "returned 2 plans; return at most 1" in row["error"]
    assert run(monkeypatch, "--json") == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["plugins"]}
    assert rows["greedy"]["about"] == "Asks for more than it may. It is wrong"
    assert rows["greedy"]["error"] is None
    assert "their-search 1.5 cannot be imported" in rows["gone"]["error"]


def test_a_name_of_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "anealing") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'anealing' is no plan, policy, rescale rule or searcher; `plugins` lists all" in said
