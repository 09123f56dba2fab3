"""The page of an audit: its names, files and table, and in a browser its marks and players."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from my_submission.src import report, separator
from my_submission.src.audio.files import AudioError
from my_submission.src.audit import command as audit
from my_submission.src.audit import page as page_module
from my_submission.src.audit.page import cut_table
from my_submission.src.audit.stem_score import COLUMNS
from my_submission.src.common import stem_table
from my_submission.src.report.players import text
from tests.helpers.audit import BandModel, make_data
from tests.helpers.browser import MISSING, Browser
from tests.helpers.page import Page

NAMES = ('<b>&amp; "one" <i>', "a,b\nc", "><script>boom()")
SUSPECTS = [  # of make_data, with these names: the worst, in the order of the table
    f"{NAMES[0]} / bass",
    f"{NAMES[0]} / vocals",
    repr(f"{NAMES[1]} / drums"),
]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Run audit on make_data's tracks; return the page."""
    folder = tmp_path_factory.mktemp("a & b #1 100% ü?")
    make_data(folder / "data", NAMES, seconds=14.0)
    options = ["--data_path", folder / "data", "--model", "bands", "--seconds", 2, "--out", folder / "audit.csv"]

    def run(name: str, *more: object) -> Path:
        assert audit.main([str(option) for option in (*options, "--report", folder / name, *more)]) == 0
        return folder / name

    with pytest.MonkeyPatch.context() as patch:
        model = BandModel(folder / "model")
        patch.setattr(separator, "open_model", lambda name, **options: model)
        yield run


@pytest.fixture(scope="module")
def page(audited: Callable[..., Path]) -> Path:
    return audited('the "page" <1> #2.html', "--suspects", 3)


def unescaped(page: Path) -> dict[str, str]:
    """Return the attributes of the bar that saves the table."""
    found: dict[str, str] = {}

    class Bar(Page):
        def handle_starttag(self, tag: str, attributes: list) -> None:
            super().handle_starttag(tag, attributes)
            if ("class", "marks") in attributes:
                found.update(attributes)

    Bar(page)
    return found


def test_names_are_escaped_and_files_exist(page: Path, audited: Callable[..., Path]) -> None:
    shown = Page(page)
    assert shown.heads == SUSPECTS
    assert {"b", "i"} & shown.tags == {"b"}  # <b> is the page's own; <i> would come from a name
    everything = audited("everything.html", "--suspects", 11)
    assert f"{NAMES[2]} / drums" in Page(everything).heads
    assert "<script>boom()" not in everything.read_text(encoding="utf-8")
    audio = [file for file in shown.files() if file.suffix == ".flac"]
    assert len(audio) == 3 * 3
    assert len(shown.files()) == 3 * len(audio)
    assert all(file.is_file() for file in shown.files())
    assert [soundfile.info(file).duration for file in audio] == [14.0] * 9
    assert sorted(path.name for path in page.with_name('the "page" <1> #2_audio').iterdir())[:3] == sorted(
        {file.parent.name for file in audio}
    )
    rows = [row for row in shown.rows if row[0] in SUSPECTS]
    assert [row[5:] for row in rows] == [["vocals", "undecided"], ["bass", "undecided"], ["other", "undecided"]]
    assert rows[2][4] == "0:06–0:12"
    assert "seems to contain other, worst at 0:06–0:12" in shown.text
    embedded = Page(audited("embedded.html", "--suspects", 2, "--embed"))
    assert (len(embedded.heads), embedded.files()) == (2, [])
    assert not embedded.path.with_name("embedded_audio").exists()


def test_window_scores_are_drawn_and_described(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    told = html.split('aria-label="Score by window: ')[3].split('"')[0]
    assert told.startswith("3 of 7 below 0: 0:06 to 0:08 −")
    strip = html.split('<div class="strip">')[3].split("</svg>")[0]
    assert (strip.count('class="bad"'), strip.count('class="good"')) == (3, 4)
    assert 'viewBox="0 0 14.000 20"' in strip
    assert '<rect class="bad" x="6.060" width="1.880" y="10.00"' in strip


def test_the_page_holds_the_bytes_of_the_table(page: Path) -> None:
    table = page.with_name("audit.csv")
    bar = unescaped(page)
    pieces = [base64.b64decode(piece) for piece in json.loads(bar["data-pieces"])]
    assert (bar["data-name"], len(pieces)) == ("audit.csv", 4)
    assert b"".join(pieces) == table.read_bytes()
    rows = stem_table.read(table, COLUMNS)
    odd = [{**rows[0], "track": name} for name in ("caf\udce9", 'a "b", c', "d\r\ne")]  # the first is no UTF-8
    copy = page.with_name("odd.csv")
    stem_table.write(copy, COLUMNS, odd)
    cut = cut_table(odd, [("d\r\ne", rows[0]["instrument"])])
    assert b"".join(cut) == copy.read_bytes()
    copy.write_bytes(b"no".join(cut))
    assert [row["keep"] for row in stem_table.read(copy, COLUMNS)] == ["", "", "no"]
    assert COLUMNS[-1] == "keep"


def test_marks_and_failures_are_on_the_page(audited: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    page = audited("first.html", "--suspects", 2)
    table = page.with_name("audit.csv")
    unmarked = table.read_bytes()
    rows = stem_table.read(table, COLUMNS)
    stem_table.write(table, COLUMNS, [{**row, "keep": "yes" if row is rows[1] else ""} for row in rows])
    made = page_module.write_lanes

    def fail(groups: list[dict], *where: object) -> list[object]:
        lanes = made(groups, *where)
        if ("stem", rows[0]["instrument"]) in groups[0]:
            raise AudioError("bass.wav: <gone>")
        return lanes

    monkeypatch.setattr(page_module, "write_lanes", fail)
    shown = Page(audited("second.html", "--suspects", 3))
    assert shown.heads == SUSPECTS[1:]
    assert "bass.wav: <gone>" in shown.text
    assert [row[6] for row in shown.rows if row[0] in SUSPECTS] == ["keep", "undecided"]
    pieces = [base64.b64decode(piece) for piece in json.loads(unescaped(shown.path)["data-pieces"])]
    assert b"".join(pieces) == unmarked
    assert {file.parent for file in shown.files()} == {
        path for path in shown.path.with_name("second_audio").iterdir() if path.is_dir()
    }
    table.write_bytes(unmarked)


def test_a_page_that_cannot_be_written_leaves_the_table(audited: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    page = audited("kept.html", "--suspects", 1)
    before = page.read_bytes()
    page.with_name("audit.csv").unlink()
    monkeypatch.setattr(report.page, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(report.ReportError, match="No space left on device"):
        audited("kept.html", "--suspects", 2)
    assert page.read_bytes() == before
    assert len(stem_table.read(page.with_name("audit.csv"), COLUMNS)) == 12


needs_browser = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
MARK = "document.querySelector(`#track-${arguments[0]} input[value='${arguments[1]}']`)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    """Open the page without marks."""
    browser.console()
    browser.open(page)
    browser.run("localStorage.clear()")
    browser.open(page)
    browser.requests()
    browser.open(page)
    yield browser
    assert browser.console() == []
    assert {url.split(":")[0] for url in browser.requests()} <= {"file", "data", "blob"}


def saved(browser: Browser, folder: Path) -> bytes:
    """Press the button; return the file it saves."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    browser.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click(".save")
    deadline = time.monotonic() + 20
    while not (folder / "audit.csv").exists():
        assert time.monotonic() < deadline, "nothing was saved"
        time.sleep(0.02)
    return (folder / "audit.csv").read_bytes()


def told(browser: Browser) -> tuple[str, list[str]]:
    """Return the text of the bar, and the marks in the list and next to the names."""
    marks = "return [...document.querySelectorAll('.marked')].map((place) => place.textContent)"
    return browser.run("return document.querySelector('.count').textContent"), browser.run(marks)


@needs_browser
def test_marks_are_saved_with_the_table(opened: Browser, page: Path, tmp_path: Path) -> None:
    table = page.with_name("audit.csv")
    assert told(opened) == ("0 to keep, 0 to drop, 3 undecided", ["undecided"] * 6)
    assert saved(opened, tmp_path / "saved") == table.read_bytes()
    opened.click("#track-1 input[value='no']")
    opened.run(f"{MARK}.click()", 2, "yes")  # folded away
    opened.run(f"{MARK}.click()", 3, "no")
    opened.run(f"{MARK}.click()", 3, "")
    assert told(opened) == ("1 to keep, 1 to drop, 1 undecided", ["drop", "keep", "undecided"] * 2)
    data = saved(opened, tmp_path / "saved")
    assert data.replace(b",no\r\n", b",\r\n").replace(b",yes\r\n", b",\r\n") == table.read_bytes()
    rows = stem_table.read(tmp_path / "saved" / "audit.csv", COLUMNS)
    assert [row["keep"] for row in rows] == ["no", "yes", *[""] * 10]
    assert [{**row, "keep": ""} for row in rows] == stem_table.read(table, COLUMNS)

    opened.open(page)  # the marks are still there
    assert told(opened) == ("1 to keep, 1 to drop, 1 undecided", ["drop", "keep", "undecided"] * 2)
    assert saved(opened, tmp_path / "saved") == data
    opened.run("document.querySelector('#track-1 input:checked').focus()")
    opened.press("ArrowLeft")  # another mark, and no other place in the song
    assert told(opened)[0] == "2 to keep, 0 to drop, 1 undecided"
    assert opened.run("return document.querySelector('#track-1 .seek input').value") == "0"


@needs_browser
def test_players_begin_at_the_worst_place_and_follow_clicks_on_the_bars(opened: Browser) -> None:
    opened.run("document.querySelector('#track-3').open = true")
    assert opened.run("return players[2].position") == 6
    assert opened.run("return document.querySelector('#track-3 .now').textContent") == "0:06.0"
    opened.click("#track-3 .play")
    opened.wait("players[2].position > 6.1")
    opened.press("t")
    hearing = "return document.querySelector('#track-3 .hearing').textContent"
    assert opened.run(hearing) == "Hearing: drums, estimate"
    opened.press("t")
    assert opened.run(hearing) == "Hearing: drums, stem"
    opened.press("3")
    assert opened.run(hearing) == "Hearing: other, estimate"
    opened.press("k")
    opened.click("#track-3 .strip .pictures", x=0.25)
    assert opened.run("return players[2].position") == pytest.approx(3.5, abs=0.05)
    bar = opened.run("""
        const bars = [...document.querySelectorAll("#track-3 .strip rect")].map((bar) => bar.getBoundingClientRect());
        const wave = document.querySelector("#track-3 .waveform").getBoundingClientRect();
        return [(bars[3].left - wave.left) / wave.width, (bars[3].right - wave.left) / wave.width]""")
    assert bar == pytest.approx([6.06 / 14, 7.94 / 14], abs=0.003)  # above the very place in the waveform


@needs_browser
def test_every_control_is_reached_by_tab_and_has_a_name(opened: Browser) -> None:
    reached = []
    for _ in range(60):
        opened.press("Tab")
        found = opened.run("""
            const element = document.activeElement, style = getComputedStyle(element);
            if (element === document.body) return null;
            const label = element.labels && element.labels[0];
            return [element.getAttribute("aria-label") || (label || element).textContent.trim(), style.outlineStyle]""")
        if found is None:
            break
        reached.append(found)
    names = [name for name, _ in reached]
    assert all(names)
    assert {outline for _, outline in reached} == {"solid"}
    assert "undecided" in names  # of a group of radio buttons, the one chosen
    assert names[-1] == "Save the table with the marks"
    assert names.count("Solo drums, estimate") == 0  # folded away
    legend = opened.run("return document.querySelector('#track-1 legend').textContent")
    assert legend == f"Mark {SUSPECTS[0]}"
    assert text(legend) in Path(opened.run("return decodeURIComponent(location.pathname)")).read_text(encoding="utf-8")


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window_in_light_and_dark(opened: Browser, tmp_path: Path, width: int) -> None:
    opened.run("for (const track of document.querySelectorAll('.track')) track.open = true")
    for scheme in ("light", "dark"):
        opened.screenshot(tmp_path / f"{scheme}.png", width, scheme)
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()
    opened.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
    overflow = """
        const wide = [...document.querySelectorAll("body *:not(.wide *)")].filter(
            (element) => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest(".over"));
        return [document.documentElement.scrollWidth <= innerWidth, wide.map((element) => element.outerHTML.slice(0, 80))]"""
    assert opened.run(overflow) == [True, []]
    opened.devtools("Emulation.clearDeviceMetricsOverride")
