"""The report in a real browser: it opens offline, each control does what it says, and
it can be used at any width, in both themes and by the keyboard.

Every visit ends with a check that nothing was asked for and nothing was complained of
(tests/helpers/browsing.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from flannelette.benchmarks import labdocument, report, results
from flannelette.benchmarks.labdocument import Document
from flannelette.benchmarks.reporthtml import Html, tag
from flannelette.benchmarks.results import Results
from tests.helpers.browsing import browser, visit
from tests.helpers.evildocument import EVIL, evil_document
from tests.helpers.labsample import RUN, changed, document


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for all: each visit has a context of its own, with nothing from before."""
    with browser() as started:
        started.new_page().close()  # what it starts once for all visits
        yield started


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path, document())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no chart is looked at: for plotly a browser takes seconds."""
    stub = "window.Plotly = { react() {}, relayout() {} };"
    monkeypatch.setattr(report, "_plotly", lambda: tag("script", Html(stub)))


def save(directory: Path, shown: Document) -> Path:
    path = directory / "lab.html"
    path.write_text(report.render(shown), encoding="utf-8")
    return path


def choose(page: Page, rung: str) -> None:
    page.locator(f'input[name="rung"][value="{rung}"]').check(force=True)


def picture(page: Page) -> str:
    """What the picture says."""
    return page.locator("#picture svg.wide").text_content() or ""


def crossings(page: Page) -> int:
    return page.locator("#picture svg.wide .crossing:not(.off)").count()


def charts(page: Page) -> int:
    return page.locator(".chart svg.main-svg:first-of-type").count()


def test_it_opens_offline_and_fits_any_width(chromium: Browser, saved: Path) -> None:
    for width, theme in ((400, "dark"), (1280, "light")):
        with visit(chromium, saved, width, theme) as it:
            assert charts(it.page) == 9
            for other in (width, 320, 768, 1920):
                it.page.set_viewport_size({"width": other, "height": 800})
                it.page.wait_for_function(_FITS)
                wide = it.page.locator("#picture svg.wide").is_visible()
                assert wide == (other > 960)


_FITS = "() => document.documentElement.scrollWidth <= innerWidth"


@pytest.mark.usefixtures("undrawn")
def test_texts_are_not_cut_or_on_top_of_each_other(
    chromium: Browser, saved: Path
) -> None:
    """In the picture, of every rung and in both shapes."""
    with visit(chromium, saved) as it:
        for width in (400, 1280):
            it.page.set_viewport_size({"width": width, "height": 800})
            for rung in document().rungs:
                choose(it.page, rung.name)
                assert it.page.evaluate(_OVERLAPS) == [], (width, rung.name)


_OVERLAPS = """() => {
  const svg = [...document.querySelectorAll("#picture svg")]
    .find((each) => each.checkVisibility());
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")]
    .filter((text) => !text.closest(".off"))
    .map((text) => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  texts.forEach(([text, box], n) => {
    if (box.left < frame.left || box.right > frame.right || box.bottom > frame.bottom)
      found.push(`${text} is cut`);
    for (const [other, its] of texts.slice(n + 1))
      if (box.left < its.right && its.left < box.right
          && box.top + 3 < its.bottom - 3 && its.top + 3 < box.bottom - 3)
        found.push(`${text} and ${other}`);
  });
  return found;
}"""


def test_a_rung_changes_picture_costs_steps_and_charts(
    chromium: Browser, saved: Path
) -> None:
    with visit(chromium, saved) as it:
        page = it.page
        assert page.locator("article[data-rung]:visible").count() == 1
        assert "1.04 calls a packet" in picture(page)  # of c, the first with stages
        assert crossings(page) == 6
        seen = set()
        for rung in document().rungs:
            choose(page, rung.name)
            assert crossings(page) == (6 if rung.flags is not None else 2)
            article = page.locator("article[data-rung]:visible")
            assert article.get_attribute("data-rung") == rung.name
            assert page.locator(".steps li.on").get_attribute("data-rung") == rung.name
            heads = page.locator("#numbers thead th.on")
            assert heads.all_inner_texts() == [rung.name]
            shape = page.locator("#chart-tcp .shapelayer path").first
            seen.add(shape.get_attribute("d"))
        assert len(seen) == len(document().rungs)
        choose(page, "tun")
        assert "40.4 packets a call" in picture(page)
        squares = page.locator("#picture svg.wide .crossing").nth(1).locator(".square")
        assert squares.count() == 40
        choose(page, "vxlan")
        assert "flannel.1" in picture(page)


def test_scales_and_bars_can_be_chosen(chromium: Browser, saved: Path) -> None:
    def axes() -> list[str]:
        found: list[str] = page.evaluate(
            "charts => charts.map(id => document.getElementById(id)._fullLayout"
            ".xaxis.type)",
            ["chart-tcp", "chart-rtt", "stages-tx"],
        )
        return found

    def end() -> float:
        last: float = page.evaluate(
            'document.getElementById("stages-tx")._fullLayout.xaxis.range[1]'
        )
        return last

    with visit(chromium, saved) as it:
        page = it.page
        assert axes() == ["log", "linear", "linear"]
        page.get_by_label("from zero").check(force=True)
        assert axes() == ["linear", "linear", "linear"]
        page.get_by_label("logarithmic").check(force=True)
        assert axes() == ["log", "log", "linear"]
        page.get_by_label("as suits").check(force=True)
        assert axes() == ["log", "linear", "linear"]
        assert end() > 4840  # nanoseconds of c, and room for the text
        expect(page.locator("#stages-tx")).to_contain_text("4.84")
        page.get_by_label("shares").check(force=True)
        assert 100 <= end() <= 110
        expect(page.locator("#stages-tx")).not_to_contain_text("4.84")
        page.get_by_label("nanoseconds", exact=True).check(force=True)
        assert end() > 4840


def test_the_theme_is_the_systems_or_the_chosen_and_light_on_paper(
    chromium: Browser, saved: Path
) -> None:
    def dark() -> tuple[bool, bool]:
        """The page, and the text of a chart."""
        ground = page.evaluate("getComputedStyle(document.documentElement).background")
        text = page.evaluate(
            'getComputedStyle(document.querySelector("#chart-tcp .ytick text")).fill'
        )
        return _sum(ground) < 200, _sum(text) > 500

    with visit(chromium, saved) as it:
        page = it.page
        assert dark() == (False, False)
        page.emulate_media(color_scheme="dark")
        assert dark() == (True, True)
        button = page.locator("#theme")
        assert button.get_attribute("aria-label") == "Change to the light theme"
        button.click()
        assert dark() == (False, False)
        page.emulate_media(color_scheme="light")
        button.click()
        assert dark() == (True, True)
        page.emulate_media(media="print")
        assert dark() == (False, False)
        expect(page.locator(".bar")).to_be_hidden()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0


def _sum(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.usefixtures("undrawn")
def test_a_packet_can_be_sent_and_stopped(chromium: Browser, saved: Path) -> None:
    with visit(chromium, saved) as it:
        page = it.page
        play, parcel = page.locator("#play"), page.locator("svg.wide .parcel")
        choose(page, "thread")  # whose packets are quick
        play.click()
        expect(parcel).not_to_have_class("parcel off")
        expect(play).to_have_text("Send a packet")
        expect(parcel).to_have_class("parcel off")
        choose(page, "python")  # and whose are not
        play.click()
        expect(play).to_have_text("Stop")
        play.click()
        expect(play).to_have_text("Send a packet")
        expect(parcel).to_have_class("parcel off")
        play.click()
        choose(page, "c")
        expect(play).to_have_text("Send a packet")


@pytest.mark.usefixtures("undrawn")
def test_a_crossing_and_its_row_are_marked_together(
    chromium: Browser, saved: Path
) -> None:
    with visit(chromium, saved) as it:
        page = it.page
        page.locator("svg.wide .crossing").nth(2).click()
        row = page.locator("article:visible tr.on")
        expect(row).to_contain_text("daemon → kernel")
        page.locator("article:visible tbody tr").nth(5).hover()
        marked = page.locator("svg.wide .crossing.on")
        expect(marked).to_have_attribute("aria-label", re.compile("Crossing 6"))


@pytest.mark.usefixtures("undrawn")
def test_it_works_by_keyboard(chromium: Browser, saved: Path) -> None:
    with visit(chromium, saved) as it:
        page = it.page
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        for _ in range(7):  # the sections, then the rungs
            page.keyboard.press("Tab")
        expect(page.locator('input[value="c"]')).to_be_focused()
        page.keyboard.press("ArrowRight")
        assert page.locator('input[value="batched"]').is_checked()
        assert "5.77 packets a call" in picture(page)
        page.keyboard.press("Tab")
        expect(page.locator("#theme")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.keyboard.press("Tab")
        expect(page.locator("svg.wide .crossing").first).to_be_focused()
        expect(page.locator("article:visible tr.on")).to_contain_text("app → kernel")


@pytest.mark.usefixtures("undrawn")
def test_the_command_can_be_copied(chromium: Browser, saved: Path) -> None:
    with visit(chromium, saved) as it:
        it.page.locator("#copy").click()
        expect(it.page.locator("#copy")).to_have_text(re.compile("Copied|Ctrl"))
        assert it.page.evaluate("getSelection().toString()") == document().command


def test_no_script_of_a_document_runs(chromium: Browser, tmp_path: Path) -> None:
    with visit(chromium, save(tmp_path, evil_document())) as it:
        assert it.page.evaluate("window.owned") is None
        assert it.page.locator("img, .chart a").count() == 0
        assert it.page.locator("article:visible h3").inner_text().count(EVIL) == 2
        assert charts(it.page) == 9
        last = it.page.locator('input[name="rung"]').last
        last.check(force=True)
        assert it.page.locator("#chart-tcp .shapelayer path").count() == 1


def gaps() -> dict[str, Document]:
    whole = document()
    empty = msgspec.Raw(results.dump(Results(RUN, "", {}, {})))
    return {
        "nothing": msgspec.structs.replace(whole, rungs=(), ladder=empty),
        "no figures": msgspec.structs.replace(whole, ladder=empty),
        "kernel": msgspec.structs.replace(whole, rungs=whole.rungs[:2]),
        "no counts": changed(whole, "c", counts=None, stages=None),
    }


@pytest.mark.usefixtures("undrawn")
def test_gaps_do_not_stop_the_page(chromium: Browser, tmp_path: Path) -> None:
    for why, shown in gaps().items():
        labdocument.load(labdocument.dump(shown))
        with visit(chromium, save(tmp_path, shown)) as it:
            for rung in shown.rungs:
                choose(it.page, rung.name)
                assert crossings(it.page) == (6 if rung.flags is not None else 2), why
            expect(it.page.locator("#theme")).not_to_be_empty()
            if why == "no counts":
                choose(it.page, "c")
                assert "not counted" in picture(it.page)
            if why == "no figures":
                expect(it.page.locator("#play")).to_be_disabled()
