"""The page in Debian's Chromium: nothing is asked of a network, nothing needs a mouse, it fits a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import PROGRAM, Chromium
from sample import a_report, html

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium (package chromium)")
PHONE = 360
# Everything that is shown: what of it reaches out of the page, and words that are on two lines.
OUT_OF_VIEW = """[...document.querySelectorAll('body *')].filter(each => {
    const at = each.getBoundingClientRect();
    return at.width > 1 && at.right > innerWidth + .5 && !each.closest('.skip-link, thead');
}).map(each => each.outerHTML.slice(0, 80))"""
BROKEN = """(() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), broken = [];
    while (texts.nextNode()) {
        for (const word of texts.currentNode.data.matchAll(/[^\\s]{1,30}/g)) {
            const range = document.createRange();
            range.setStart(texts.currentNode, word.index);
            range.setEnd(texts.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map(at => Math.round(at.top))).size > 1) broken.push(word[0]);
        }
    }
    return broken;
})()"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(a_report()), "utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


def test_the_page_asks_for_nothing_runs_nothing_and_complains_of_nothing(browser, url) -> None:
    browser.open(url)
    kinds = {"Network.requestWillBeSent", "Log.entryAdded", "Runtime.exceptionThrown"}
    seen = [event for event in browser.events if event["method"] in kinds]
    assert [event["params"]["request"]["url"] for event in seen if "request" in event["params"]] == [url]  # fmt: skip
    assert len(seen) == 1, seen
    assert browser.value("typeof window.taken") == "undefined"
    assert browser.value("document.title") == "Jobs of server"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(browser, url, dark: bool, tmp_path) -> None:
    browser.open(url, width=PHONE, dark=dark)
    browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.value("document.documentElement.scrollWidth") == PHONE
    assert browser.value(OUT_OF_VIEW) == []
    scrolled = "[...document.querySelectorAll('.wide')].filter(each => each.scrollWidth > each.clientWidth).length"
    assert browser.value(scrolled) == 0
    # A browser breaks markup where a tag ends or a query begins, and so may we.
    assert [word for word in browser.value(BROKEN) if not {*word} & {*"<>&'?\\"}] == []
    widths = (
        "[...document.querySelectorAll('.job svg')].map(each => each.getBoundingClientRect().width)"
    )
    assert min(browser.value(widths)) > PHONE / 2
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    # Why a run failed is seen without a sideways step.
    edge = browser.value("document.querySelector('td.text').getBoundingClientRect().right")
    assert edge <= PHONE
    browser.screenshot(tmp_path / "page.png")


def test_a_screen_reader_gets_headings_tables_and_images_with_words(browser, url) -> None:
    browser.open(url)
    nodes = browser.nodes()
    headings = [node["name"] for node in nodes if node["role"] == "heading"]
    assert headings == [
        *("Jobs of server", "Failures", "Alerts", "Next 24 hours", "Jobs"),
        *("cache_cleanup_hourly", "mixed", "never_ran", "What the words mean"),
    ]
    images = [node["name"] for node in nodes if node["role"] == "image"]
    assert len(images) == 1 + (1 + 5) + (1 + 1)
    assert any("100 success, 1 failed" in name for name in images)
    columns = [node["name"] for node in nodes if node["role"] == "columnheader"]
    assert columns[:4] == ["When", "Job", "Result", "Why"]
    assert {"main", "banner", "navigation"} <= {node["role"] for node in nodes}
    # A phone's tables are lines, and tables to it still.
    browser.open(url, width=PHONE)
    on_a_phone = browser.nodes()
    for role in ("table", "row", "columnheader", "rowheader", "cell"):
        there = [node["name"] for node in nodes if node["role"] == role]
        assert len(there) == sum(node["role"] == role for node in on_a_phone), role


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(browser, url) -> None:
    browser.open(url)
    places = browser.value("document.querySelectorAll('a, summary, [tabindex]').length")
    order = []
    for _ in range(places):
        browser.press_tab()
        order.append(
            browser.value(
                "[...document.querySelectorAll('a, summary, [tabindex]')].indexOf(document.activeElement)"
            )
        )
    assert order[0] == 0, "the first is the link to the jobs"
    reached = order[: order.index(-1)] if -1 in order else order
    assert reached == sorted(reached)
    # What is folded away cannot be reached, and is no loss: its summary can.
    folded = browser.value("document.querySelectorAll('details a, details [tabindex]').length")
    assert len(reached) == places - folded
