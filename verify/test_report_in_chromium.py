"""The report in Chromium: search, keyboard, accessibility, printing, speed, and the screenshots in docs/."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from chalicelib.accounts import Outcome
from rolecall.listing import cell_of_spreadsheet
from rolecall.report_data import COLUMNS
from rolecall.report_page import render_report
from tests.unit.reported import account, audited_organization, report_of, row
from verify.browser import Browser

DOCS = Path(__file__).parents[1] / "docs"
TAB, ESCAPE = "\ue004", "\ue00c"
LARGE = 5_000
MAX_SECONDS = 2.0  # for each step with a large organization
MAX_SCREENSHOT_BYTES = 150_000

# Seconds until the page was first painted and completely loaded.
_LOAD_SECONDS = """
const [load] = performance.getEntriesByType('navigation'), [paint] = performance.getEntriesByName('first-contentful-paint');
return Math.max(load.loadEventEnd, paint.startTime) / 1000;
"""
_VISIBLE_ROWS = "return [...document.querySelectorAll('.a')].filter(each => each.checkVisibility()).length"
_FOCUSED = """
const each = document.activeElement, style = getComputedStyle(each);
const name = each.id || each.textContent.trim().replace(/\\s+/g, ' ').split(' ').slice(0, 3).join(' ');
return [each.tagName.toLowerCase(), name, style.outlineStyle !== 'none' || each.tagName === 'BODY'];
"""
_EXPAND_SECONDS = """
const start = performance.now();
document.getElementById('expand').click();
requestAnimationFrame(() => setTimeout(() => arguments[0]((performance.now() - start) / 1000)));
"""
# Seconds from a key press to the frame that shows the result.
_SEARCH_SECONDS = """
const [selector, text, done] = arguments;
const field = document.querySelector(selector), start = performance.now();
field.value = text;
field.dispatchEvent(new Event('input', {bubbles: true}));
requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)));
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small organization, with evidence and the changes since an earlier report."""
    directory = tmp_path_factory.mktemp("small")
    page = directory / "rolecall.html"
    page.write_text(render_report(audited_organization(140, directory)))
    return page


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    page = directory / "rolecall.html"
    page.write_text(render_report(audited_organization(LARGE, directory)))
    return page


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """A browser that must log no errors and request only the page."""
    started.prefer("light")
    started.size(1180, 900)
    started.open(Path(os.devnull))
    started.console()
    started.requests()
    yield started
    assert started.console() == []
    assert [each for each in started.requests() if not each.startswith(("file:", "data:"))] == []


def found(browser: Browser) -> tuple[str, int]:
    """Return the page's own count and the number of visible rows."""
    return browser.run("return document.getElementById('found').textContent"), browser.run(_VISIBLE_ROWS)


def test_search_finds_ids_and_names(browser: Browser, small: Path) -> None:
    browser.open(small)
    assert found(browser) == ("141 accounts", 141)
    browser.type("#search", "shipping network")
    assert found(browser) == ("2 of 141 accounts", 2)
    browser.press(ESCAPE)
    browser.wait_for_frame()
    assert found(browser) == ("141 accounts", 141)
    browser.type("#search", "999999999999")
    assert found(browser) == ("1 of 141 accounts", 1)
    browser.type("#search", "x")
    assert found(browser) == ("0 of 141 accounts", 0)
    assert browser.run("return document.getElementById('none').checkVisibility()")
    browser.click("button[type=reset]")
    assert found(browser) == ("141 accounts", 141)


def test_filters_narrow_by_outcome_and_reason(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.click("#outcome option[value=failed]")
    assert found(browser) == ("7 of 141 accounts", 7)
    browser.click("#reason option[value=scp_denied]")
    assert found(browser) == ("3 of 141 accounts", 3)
    hidden = "return [...document.querySelectorAll('.unit')].filter(each => each.hidden).length"
    assert browser.run(hidden) > 0
    browser.click("button[type=reset]")
    assert browser.run(hidden) == 0


def test_links_of_the_legend_and_of_failures_filter_the_accounts(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.click(".legend a[data-outcome=retired]")
    assert found(browser) == ("2 of 141 accounts", 2)
    browser.click(".failure a[data-reason=foreign_role]")
    assert found(browser) == ("2 of 141 accounts", 2)
    assert browser.run("return location.hash") == "#accounts"


def test_search_opens_collapsed_units(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.click("#collapse")
    assert browser.run(_VISIBLE_ROWS) == 0
    browser.type("#search", "payments")
    text, visible = found(browser)
    assert text == f"{visible} of 141 accounts"
    assert visible > 5
    browser.click("#expand")
    browser.click("button[type=reset]")
    assert browser.run(_VISIBLE_ROWS) == 141


def test_keyboard_moves_through_the_page_in_order(browser: Browser, small: Path) -> None:
    browser.open(small)
    visited: list[tuple[str, str]] = []
    for _ in range(60):
        browser.press(TAB)
        tag, name, outlined = browser.run(_FOCUSED)
        assert outlined, f"the focus on {tag} {name} is not visible"
        visited.append((tag, name))
    assert visited[:13] == [
        ("a", "Skip to the"),
        *(("a", name) for name in ("Failures", "Changes", "Access", "Evidence", "Source policy", "Accounts")),
        *(("a", name) for name in ("102 enrolled", "7 failed", "1 pending", "1 waiting", "28 skipped", "2 retired")),
    ]
    tools = visited.index(("input", "search"))
    assert visited[tools : tools + 10] == [
        ("input", "search"),
        ("select", "outcome"),
        ("select", "reason"),
        ("button", "Clear"),
        ("button", "expand"),
        ("button", "collapse"),
        ("input", "arns"),
        ("button", "csv"),
        ("button", "json"),
        ("summary", "Root r-ab12 102"),
    ]


def test_accessibility_tree_has_landmarks_headings_and_names(browser: Browser, small: Path) -> None:
    browser.open(small)
    nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    named = [(role_of(node), node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = [role for role, _ in named]
    for landmark in ("banner", "main", "navigation", "contentinfo", "search"):
        assert roles.count(landmark) == 1, landmark
    for expected in (
        ("heading", "102 of 111 eligible accounts are enrolled"),
        ("region", "Failures"),
        ("region", "Evidence"),
        ("region", "Accounts"),
        ("checkbox", "role ARNs"),
        ("button", "CSV"),
        ("searchbox", "Search"),
        ("combobox", "Outcome"),
        ("combobox", "Reason"),
        ("status", ""),
        ("StaticText", "risk-web-0078"),
    ):
        assert expected in named
    assert any(role == "image" and "102 enrolled, 7 failed, 1 pending" in name for role, name in named)
    unnamed = [
        role for role, name in named if role in {"button", "link", "combobox", "searchbox", "table"} and not name
    ]
    assert set(unnamed) <= {"table"}


def role_of(node: dict[str, Any]) -> str:
    return str(node.get("role", {}).get("value", ""))


def test_page_is_complete_without_scripts(browser: Browser, small: Path) -> None:
    browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(small)
        document = browser.devtools("DOM.getDocument")["root"]["nodeId"]
        matching = {
            selector: len(browser.devtools("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"])
            for selector in (".a", ".a[hidden]", ".unit > details:not([open])", "#tools[hidden]")
        }
    finally:
        browser.devtools("Emulation.setScriptExecutionDisabled", value=False)
    assert matching == {".a": 141, ".a[hidden]": 0, ".unit > details:not([open])": 0, "#tools[hidden]": 1}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(browser: Browser, small: Path, scheme: str) -> None:
    browser.prefer(scheme)
    browser.open(small)
    assert browser.run(_CONTRASTS) == []


# The contrast of every element with text to its background, by the formula of WCAG 2, where AA requires 4.5.
_CONTRASTS = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const background = each => {
  for (; each; each = each.parentElement) {
    const found = channels(getComputedStyle(each).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const poor = new Set();
for (const each of document.body.querySelectorAll('*:not(script, style, option)')) {
  if (![...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()) || !each.checkVisibility()) continue;
  const [a, b] = [light(channels(getComputedStyle(each).color)), light(background(each))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.add(`${each.tagName}.${each.className} ${ratio.toFixed(2)}`);
}
return [...poor];
"""


def test_print_shows_everything_expanded(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.click("#collapse")
    browser.prefer("light", media="print")
    assert browser.run(_VISIBLE_ROWS) == 141
    assert not browser.run("return document.getElementById('tools').checkVisibility()")
    assert browser.run("return document.querySelector('.errors samp').checkVisibility()")


def test_accounts_are_printed_before_policies_and_denials(browser: Browser, small: Path) -> None:
    browser.size(703, 1020)  # A4 less its margins
    browser.prefer("light", media="print")
    browser.open(small)
    top = "return document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY"
    accounts, denials, policies = (browser.run(top, each) for each in ("#accounts", "#denials", "#documents"))
    assert accounts < denials < policies
    assert browser.run("return document.documentElement.scrollWidth") <= 703


@pytest.mark.parametrize("width", [360, 400, 800, 1280])
@pytest.mark.parametrize("clicked", [(), ("#arns",)], ids=["", "with role ARNs"])
def test_content_fits_the_width(browser: Browser, small: Path, width: int, clicked: tuple[str, ...]) -> None:
    browser.size(width, 900)
    browser.open(small)
    for each in clicked:
        browser.click(each)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    browser.wait_for_frame()
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(_CUT_OFF) == []


# Elements whose content is wider than they are, except what scrolls, a name that ends with an ellipsis, and the tools' margins.
_CUT_OFF = """
const cut = each => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline';
return [...document.querySelectorAll('main *, header *, footer *')]
  .filter(each => !each.matches('section') && !each.closest('pre, select, svg, bdi') && each.checkVisibility() && cut(each))
  .map(each => `${each.tagName}.${each.className} ${each.textContent.trim().slice(0, 60)}`);
"""


def test_role_arns_are_shown_on_request(browser: Browser, small: Path) -> None:
    browser.open(small)
    visible = "return [...document.querySelectorAll('.arn')].filter(each => each.checkVisibility()).length"
    assert browser.run(visible) == 0
    browser.click("#arns")
    assert browser.run(visible) == 103
    browser.prefer("light", media="print")
    assert browser.run(visible) == 103


def test_downloads_have_every_account(browser: Browser, tmp_path: Path) -> None:
    hostile, plain = account(1, '=1+1, "</script>\n'), account(2, "payments")
    report = report_of([hostile, plain], [row(hostile, Outcome.ENROLLED), row(plain, Outcome.ENROLLED)])
    page = tmp_path / "rolecall.html"
    page.write_text(render_report(report))
    browser.open(page)
    browser.run(_RECORD_DOWNLOADS)
    browser.click("#csv")
    browser.click("#json")

    (csv_name, csv_text), (json_name, json_text) = browser.run_async(_DOWNLOADS)

    assert (csv_name, json_name) == ("rolecall-dev-2026-11-25.csv", "rolecall-dev-2026-11-25.json")
    header, *rows = csv.reader(io.StringIO(csv_text, newline=""))
    assert header == list(COLUMNS)
    cells = [each.cells() for each in report.data.accounts]
    assert rows == [[cell_of_spreadsheet(each[column]) for column in COLUMNS] for each in cells]
    assert json.loads(json_text) == report.data.as_json() | {
        "evidence": None,
        "accounts": [asdict(each) for each in report.data.accounts],
    }


# Keep what is downloaded, and don't write it to a file.
_RECORD_DOWNLOADS = """
window.downloads = [];
const create = URL.createObjectURL;
URL.createObjectURL = blob => { window.downloads.push({blob}); return create(blob); };
HTMLAnchorElement.prototype.click = function() { window.downloads.at(-1).name = this.download; };
"""
_DOWNLOADS = """
Promise.all(window.downloads.map(async ({blob, name}) => [name, await blob.text()])).then(arguments[0]);
"""


def test_large_organization_is_rendered_and_searched_quickly(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.wait_for_frame()
    assert browser.run("return document.querySelectorAll('.a').length") == LARGE + 1
    assert browser.run(_LOAD_SECONDS) < MAX_SECONDS
    assert browser.run_async(_EXPAND_SECONDS) < MAX_SECONDS
    assert browser.run(_VISIBLE_ROWS) == LARGE + 1
    for text in ("payments", ""):
        assert browser.run_async(_SEARCH_SECONDS, "#search", text) < MAX_SECONDS


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshot_is_taken_for_the_documents(browser: Browser, small: Path, scheme: str) -> None:
    browser.prefer(scheme)
    browser.size(1180, 860)
    browser.open(small)
    browser.wait_for_frame()
    screenshot = browser.screenshot()
    assert len(screenshot) < MAX_SCREENSHOT_BYTES
    (DOCS / f"report-{scheme}.png").write_bytes(screenshot)
