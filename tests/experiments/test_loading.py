"""What names and files mean to commands, searches and trainings alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.loading import LoadingError, is_plan_file, load_built, load_device, load_graph
from sim.plan import PlanError

ROOT = Path(__file__).parents[2]


def test_an_onnx_file_fixes_its_own_image_size() -> None:
    with pytest.raises(LoadingError, match=r"--image 32: net\.onnx fixes its own image size"):
        load_graph("net.onnx", 8, 32)


def test_a_plan_is_a_name_or_a_file_that_is_checked(tmp_path: Path) -> None:
    graph, device = load_graph("lenet", 8), load_device("snapdragon-865")
    named = load_built("mandheling", graph, device)
    file = tmp_path / "plan.json"
    file.write_text(named.plan.to_json())
    assert is_plan_file(str(file))
    assert not is_plan_file("mandheling")
    assert load_built(str(file), graph, device).plan == named.plan
    with pytest.raises(PlanError, match="is for graph"):
        load_built(str(file), load_graph("lenet", 16), device)


@pytest.mark.parametrize("folder", ["search", "certify", "report"])
def test_they_need_no_module_of_the_command_line(folder: str) -> None:
    """They are for scripts too: none of them imports what reads options or prints."""
    modules = sorted((ROOT / "experiments" / folder).glob("*.py"))
    assert modules
    imports = re.compile(r"^\s*(?:from|import) experiments\.cli", re.MULTILINE)
    assert [m.name for m in modules if imports.search(m.read_text(encoding="utf-8"))] == []
