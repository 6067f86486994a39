"""The page in a real browser: it draws itself, answers pointer and keys, and asks for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_browser import Browser, browser
from report_cases import ground_of, searched

from experiments.report import render_page, report_document
from experiments.search.result import SearchResult
from experiments.search.verify import Verification, Verified

HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><b onclick='x'>&lt;"
OTHER = """(() => [...document.querySelectorAll('.point.front:not(.selected)')].map((node) => {
  node.scrollIntoView({block: 'center'});
  const box = node.getBoundingClientRect();
  const at = [box.x + box.width / 2, box.y + box.height / 2];
  return document.elementFromPoint(...at) === node ? node.dataset.plan : null;
}).find((id) => id !== null))()"""
"""A point of the front that is not selected and lies open."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return searched()


@pytest.fixture(scope="module")
def page(found: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_page(report_document(found, *ground_of(found))), encoding="utf-8")
    return path


@pytest.fixture
def tab(chromium: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; afterwards, whatever was done, nothing was complained about."""
    chromium.scheme("light")
    chromium.open(page)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requests() == [page.resolve().as_uri()]


def texts(tab: Browser, selector: str) -> list[str]:
    found: list[str] = tab.value(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"
    )
    return found


def section(title: str) -> str:
    """JavaScript for a panel by the start of its heading."""
    return (
        "[...document.querySelectorAll('section')]"
        f".find((one) => one.querySelector('h2').textContent.startsWith({json.dumps(title)}))"
    )


PANELS = (
    "The front",
    "One technique",
    "Where the time goes",
    "Timeline",
    "Sensitivity",
    "What the times rest on",
    "What the plan decides",
)
"""Panels that follow the selected plan."""


def shown(tab: Browser, title: str) -> Any:
    return tab.value(f"{section(title)}.innerHTML")


@pytest.mark.parametrize("width", [1280, 480])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_draws_itself_within_the_window(
    tab: Browser, page: Path, scheme: str, width: int
) -> None:
    tab.scheme(scheme)
    tab.open(page, width)
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("document.querySelectorAll('svg').length") >= 7
    assert tab.value("[...document.querySelectorAll('svg')].every((one) => one.clientWidth > 200)")
    ink = tab.value("getComputedStyle(document.querySelector('svg text')).fill")
    bright = sum(int(part) for part in ink.strip("rgb()").split(",")) / 3 > 128
    assert bright == (scheme == "dark")
    assert "NaN" not in tab.value("document.getElementById('page').innerHTML")
    assert "undefined" not in tab.value("document.body.innerText")


def test_the_theme_button_overrides_the_system(tab: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.value(ground)
    tab.scheme("dark")
    dark = tab.value(ground)
    assert light != dark
    tab.click("#theme")
    assert tab.value(ground) == light
    tab.click("#theme")
    tab.scheme("light")
    assert tab.value(ground) == dark


def test_hovering_a_point_tells_its_values_and_changes(tab: Browser, found: SearchResult) -> None:
    assert tab.value("document.getElementById('tip').hidden")
    name = tab.value(OTHER)
    tab.hover(f".point[data-plan={name}]")
    assert not tab.value("document.getElementById('tip').hidden")
    (text,) = texts(tab, "#tip")
    plan = next(plan for plan in found.front if plan.id == name)
    assert text.startswith(name)
    assert f"{plan.time_ns / 1e6:.3f} ms" in text or f"{plan.time_ns / 1e6:.2f} ms" in text
    assert "against mandheling:" in text
    assert "→" in text
    tab.mouse("mouseMoved", 1, 1)
    assert tab.value("document.getElementById('tip').hidden")


def test_clicking_a_point_changes_every_panel(tab: Browser) -> None:
    before = {title: shown(tab, title) for title in PANELS}
    name = tab.value(OTHER)
    tab.click(f".point[data-plan={name}]")
    assert tab.value("document.getElementById('plan').value") == name
    for title in PANELS:
        assert shown(tab, title) != before[title], title
        if title != "The front":
            assert name in shown(tab, title), title
    assert tab.value(f"document.querySelector('.point[data-plan={name}]').ariaPressed") == "true"
    assert texts(tab, "tr.selected td:first-child")[0].startswith(name)


def test_a_point_is_reached_and_picked_by_keyboard(tab: Browser) -> None:
    name = tab.value("document.querySelector('.point.front:not(.selected)').dataset.plan")
    tab.value(f"document.querySelector('.point[data-plan={name}]').focus()")
    assert texts(tab, "#tip")[0].startswith(name)
    tab.key("Enter", 13)
    assert tab.value("document.getElementById('plan').value") == name
    assert tab.value("document.activeElement.dataset.plan") == name
    tab.key("Escape", 27)
    assert tab.value("document.getElementById('tip').hidden")


def test_tables_and_the_list_pick_plans_too(tab: Browser, found: SearchResult) -> None:
    tab.click("tr:not(.selected) button.link")
    picked = tab.value("document.getElementById('plan').value")
    assert picked != found.chosen
    tab.value(
        "(() => { const list = document.getElementById('plan'); list.value = 'baseline:mandheling';"
        "list.dispatchEvent(new Event('change')); })()"
    )
    assert "the plan that others are compared with" in shown(tab, "What the plan decides")
    tab.click(".selection button")
    assert tab.value("document.getElementById('plan').value") == found.chosen


def test_the_axes_can_be_chosen(tab: Browser) -> None:
    assert "energy per step, J" in texts(tab, ".axis .name")
    tab.value(
        "(() => { const list = document.querySelectorAll('section select')[1];"
        "list.value = 'memory_bytes'; list.dispatchEvent(new Event('change')); })()"
    )
    assert "peak memory, MiB" in texts(tab, ".axis .name")
    points = len(texts(tab, ".point"))
    tab.value(
        "(() => { const list = document.querySelectorAll('section select')[2];"
        "list.value = 'all'; list.dispatchEvent(new Event('change')); })()"
    )
    assert len(texts(tab, ".point")) > points


def span_ms(tab: Browser) -> tuple[float, float]:
    (text,) = texts(tab, ".range")
    words = text.split(" ")
    return float(words[0]), float(words[2])


def test_the_timeline_zooms_and_pans(tab: Browser) -> None:
    whole = span_ms(tab)
    tab.click("[aria-label='Zoom in']")
    once = span_ms(tab)
    assert once[1] - once[0] == pytest.approx((whole[1] - whole[0]) / 2, rel=0.01)
    tab.click("[aria-label='Earlier']")
    assert span_ms(tab)[0] < once[0]
    tab.key("0", 48)  # a key of the plot: it has no focus yet
    tab.value("document.querySelector('.gantt').focus()")
    tab.key("0", 48)
    assert span_ms(tab) == whole
    box = tab.box(".gantt")
    at = (box["x"] + box["width"] * 0.75, box["y"] + 60)
    tab.mouse("mouseWheel", *at, deltaX=0, deltaY=-240)
    tab.until("!document.querySelector('.range').textContent.startsWith('0 to ')")
    wheeled = span_ms(tab)
    assert wheeled[1] - wheeled[0] < whole[1] - whole[0]
    assert (wheeled[0] + wheeled[1]) / 2 > (whole[0] + whole[1]) / 2  # it zooms to the pointer
    tab.mouse("mousePressed", *at, button="left", clickCount=1)
    tab.mouse("mouseMoved", at[0] + 80, at[1], button="left", buttons=1)
    tab.mouse("mouseReleased", at[0] + 80, at[1], button="left", clickCount=1)
    dragged = span_ms(tab)
    assert dragged[0] < wheeled[0]
    assert dragged[1] - dragged[0] == pytest.approx(wheeled[1] - wheeled[0], rel=0.01)


def test_the_wheel_scrolls_the_page_while_the_timeline_has_no_focus(tab: Browser) -> None:
    whole = span_ms(tab)
    box = tab.box(".gantt")
    before = tab.value("scrollY")
    tab.mouse("mouseWheel", box["x"] + 300, box["y"] + 60, deltaX=0, deltaY=120)
    tab.until(f"scrollY > {before}")
    assert span_ms(tab) == whole


def test_hovering_a_task_names_it(tab: Browser, page: Path) -> None:
    box = tab.box(".gantt")
    names = set(json.loads(texts(tab, "#data")[0])["tasks"]["names"])
    told = set()
    for step in range(1, 40):
        tab.mouse("mouseMoved", box["x"] + 62 + step * (box["width"] - 80) / 40, box["y"] + 45)
        told.add(tab.value("document.querySelector('#tip:not([hidden]) strong')?.textContent"))
    assert len(told - {None}) > 3
    assert told - {None} <= names
    assert "critical path" in texts(tab, "#tip")[0]


def test_what_is_not_critical_fades(tab: Browser) -> None:
    assert not texts(tab, ".gantt .faded")
    tab.click(".controls input[type=checkbox]")
    assert texts(tab, ".gantt .faded")


def test_all_constants_can_be_shown(tab: Browser) -> None:
    rows = f"{section('Sensitivity')}.querySelectorAll('svg text[tabindex]').length"
    few = tab.value(rows)
    tab.value(f"{section('Sensitivity')}.querySelector('.controls button').click()")
    assert tab.value(rows) > few == 12


def test_the_command_is_copied(tab: Browser, found: SearchResult) -> None:
    assert found.manifest.command in texts(tab, "pre.command")
    tab.click("button.copy")
    tab.until("document.querySelector('button.copy').textContent === 'copied'")


def test_robustness_is_told_by_verdict(tab: Browser, found: SearchResult) -> None:
    assert found.robustness is not None
    mine = [g for g in found.robustness.gains if g.plan.endswith(found.chosen)]
    text = tab.value(f"{section('Does the gain')}.textContent")
    assert mine
    for gain in mine:
        assert gain.rival[:10] in text  # a long name is clipped
        assert gain.verdict in text


def test_bound_and_trainings_are_shown_where_the_result_has_them(
    chromium: Browser, found: SearchResult, tmp_path: Path
) -> None:
    content = found.to_json()
    best = found.best.time_ns
    content["bound"] = {
        "time_ns": best * 4 // 5,
        "method": "relaxations",
        "parts": {"critical path": best // 2},
        "seconds": 1.0,
        "gap": 0.2,
    }
    base, mine = (
        Verified(
            (name,), name, acc, acc - 0.02, acc + 0.02, 60, 100, diff, *ends, clear, 3, 2, 0.1, 5, 9
        )
        for name, acc, diff, ends, clear in (
            ("mandheling", 0.6, 0.0, (0.0, 0.0), False),
            (found.best.plan["name"], 0.57, -0.03, (-0.05, 0.01), False),
        )
    )
    content["verified"] = Verification("mandheling", {}, (base, mine), ("a note",)).document()
    page = tmp_path / "more.html"
    result = SearchResult.from_json(content)
    page.write_text(render_page(report_document(result, *ground_of(result))), encoding="utf-8")
    chromium.open(page)
    proof = chromium.value(f"{section('Search and bound')}.textContent")
    assert "could save at most 20.0 % (the gap)" in proof
    assert "critical path" in proof
    trained = chromium.value(f"{section('Trained for real')}.innerText")
    assert "57.00 % (55.00 % to 59.00 %)" in trained
    assert "within the noise" in trained
    assert f"{found.chosen}" in trained
    assert chromium.complaints() == []


def test_a_device_without_a_dsp_has_no_offload(chromium: Browser, tmp_path: Path) -> None:
    result = searched(device="laptop")
    page = tmp_path / "page.html"
    page.write_text(render_page(report_document(result, *ground_of(result))), encoding="utf-8")
    chromium.open(page)
    assert "there is no offload" in chromium.value(f"{section('One technique')}.textContent")
    assert chromium.complaints() == []


def test_names_are_text_and_nothing_else(
    chromium: Browser, found: SearchResult, tmp_path: Path
) -> None:
    content = found.to_json()
    for plan in (*content["front"], *content["baselines"]):
        plan["plan"]["name"] = HOSTILE
    content["baselines"][0]["name"] = content["front"][0]["id"] = content["chosen"] = HOSTILE
    content["manifest"]["command"] = HOSTILE
    content["robustness"]["notes"] = [HOSTILE]
    result = SearchResult.from_json(content)
    page = tmp_path / "hostile.html"
    page.write_text(render_page(report_document(result, *ground_of(result))), encoding="utf-8")
    chromium.open(page)
    chromium.hover(".point.chosen")
    assert HOSTILE in texts(chromium, "#tip")[0]
    assert HOSTILE in texts(chromium, "pre.command")
    assert chromium.value("document.querySelectorAll('img, b').length") == 0
    assert chromium.value("window.pwned === undefined")
    assert chromium.complaints() == []
    assert chromium.requests() == [page.as_uri()]


def test_the_page_refuses_every_request(chromium: Browser, page: Path, tmp_path: Path) -> None:
    """The policy works: a script that is not the page's own, and a request, are refused."""
    text = page.read_text(encoding="utf-8")
    asking = tmp_path / "asking.html"
    image = '<img src="http://example.org/x.png"><script>window.ran = 1</script></body>'
    asking.write_text(text.replace("</body>", image), encoding="utf-8")
    chromium.open(asking)
    assert chromium.value("window.ran === undefined")
    complaints = "\n".join(chromium.complaints())
    assert complaints.count("Content Security Policy") >= 2
