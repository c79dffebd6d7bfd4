"""The page as text: escaped, complete in itself, no larger than it must be, and legible in both colour schemes."""

import os
import re
import stat
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from sample import NASTY, NOW_S, WINDOW, a_report, a_run, a_state, html

from sereno.errors import SerenoError
from sereno.observe.report import model
from sereno.observe.report.ahead import ahead
from sereno.observe.report.page import tick, ticks
from sereno.observe.report.writing import write

EMPTY = {"meta", "link", "path", "wbr"}


class Elements(HTMLParser):
    """The elements of a page with their attributes, its text, and whether every one is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> Elements:
    return Elements(html(a_report()))


def test_the_page_is_well_formed_and_no_id_is_there_twice(page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = " ".join(attributes.get("aria-labelledby", "") for _, attributes in page.found)
    targets = [each["href"][1:] for tag, each in page.found if tag == "a"]
    assert set(pointed.split()) | set(targets) <= set(ids)


def test_what_a_job_says_is_shown_and_never_obeyed(page) -> None:
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "img", "iframe", "object", "form"}
    assert not any(name.startswith("on") for _, each in page.found for name in each)
    shown = NASTY.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    # The name of a job, an error in two tables and a line, an alert.
    assert page.text.count(shown) >= 4
    assert "\x1b" not in page.text
    assert "49" not in re.findall(r"example.org/a.png (\S+)", page.text)


def test_the_page_loads_nothing(page) -> None:
    for tag, attributes in page.found:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    style = re.search(r"<style>.*</style>", html(a_report()), re.DOTALL)
    assert style
    assert not re.search(r"url\(|@import|//", style[0])
    policies = [each["content"] for _, each in page.found if "http-equiv" in each]
    assert policies and policies[0].startswith("default-src 'none'")


def test_every_image_has_a_title_and_a_description_in_words(page) -> None:
    images = [each for tag, each in page.found if tag == "svg"]
    assert all(each["role"] == "img" and len(each["aria-labelledby"].split()) == 2 for each in images)  # fmt: skip
    counts = "100 success, 1 failed, 1 lost, 1 interrupted, 1 skipped, 2 missed, 1 running, from"
    assert counts in page.text


def test_headings_have_no_gap_and_tables_have_scoped_headers(page) -> None:
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(each.get("scope") in ("col", "row") for tag, each in page.found if tag == "th")


def test_a_run_is_told_by_a_word_and_a_sign_and_not_by_its_colour_alone(page) -> None:
    for status, sign in (("failed", "✗"), ("success", "✓"), ("missed", "○"), ("lost", "?")):
        assert re.search(rf"{re.escape(sign)}\s+{status}", page.text)


def test_a_hundred_times_as_many_runs_make_no_larger_page() -> None:
    def size(count: int) -> int:
        step_s = (NOW_S - WINDOW.since_s) / count
        runs = [a_run("job", WINDOW.since_s + each * step_s, "failed") for each in range(count)]
        return len(html(a_report(model.job_view(a_state("job", runs[-1]), runs, WINDOW))))

    assert size(20_000) < 1.2 * size(200)


def test_text_has_the_contrast_that_wcag_asks_for_in_both_schemes() -> None:
    text = html(a_report())
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    schemes = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert len(schemes) == 2
    assert schemes[0].keys() == schemes[1].keys()
    for colours in schemes:
        for name in colours.keys() - {"ground", "raised", "rule"}:
            for ground in ("ground", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, 1.4.3: the ratio of the relative luminances."""
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("days", "labels"),
    [
        (7, ["Thu 30", "Sat 01", "Mon 03", "Wed 05"]),
        (1, ["18:00", "Wed 05", "06:00", "12:00"]),
        (0.4, ["06:00", "09:00", "12:00"]),
        (90, ["08 Aug", "31 Aug", "23 Sep", "16 Oct"]),
    ],
)
def test_an_axis_has_days_or_hours_whichever_the_time_is_made_of(
    days: float, labels: list[str]
) -> None:
    window = model.window_of(days, NOW_S)
    shown = [tick(datetime.fromtimestamp(at, UTC), window) for at in ticks(window, UTC)]
    assert shown == labels


def test_a_long_id_goes_on_after_an_underscore_and_a_short_one_stays_whole() -> None:
    long_id = "nightly_recalculation_of_all_prices"
    text = html(a_report(*(model.job_view(a_state(one), [], WINDOW) for one in (long_id, "a_b"))))
    assert "nightly_<wbr>recalculation_<wbr>of_<wbr>all_<wbr>prices</h3>" in text
    assert ">a_b</h3>" in text
    assert long_id in Elements(text).text


def test_the_page_of_a_machine_without_jobs_is_a_page_too() -> None:
    empty = a_report()
    empty = Elements(html(model.Report(**{
        **{name: getattr(empty, name) for name in model.Report.__slots__},
        "jobs": (), "failures": (), "notices": (), "notice_count": 0, "ahead": ahead({}, NOW_S),
        "journal_begins_s": None, "remarks": ("elapses: there is no systemd-analyze here",),
    })))  # fmt: skip
    assert "No job is installed in this scope." in empty.text
    assert "there is no systemd-analyze" in empty.text


def test_a_report_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    with target.open() as before:
        write(str(target), "néw")
        assert (before.read(), target.read_text("utf-8")) == ("old", "néw")
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_stays_what_it_is() -> None:
    write(os.devnull, "new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_report_that_cannot_be_written_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "no/report.html"):
        with pytest.raises(SerenoError, match=f"-o: {path}: "):
            write(str(path), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
