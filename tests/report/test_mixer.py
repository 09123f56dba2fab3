"""The page's mixer in a browser: faders, mix, loop, downloads, keys, small screens, and the page without JavaScript."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import soundfile

from my_submission.src import report
from my_submission.src.report.lanes import Lane, file_name
from tests.helpers.browser import MISSING, Browser
from tests.helpers.page import Page
from tests.helpers.report_page import SECONDS, lane, make_songs, state, wait_until_playing

needs_browser = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
ESTIMATES, REFERENCES = [1, 3, 5, 7], [2, 4, 6, 8]  # places of the lanes on the page; the mixture is lane 0
TARGETS = """
    const shown = [...document.querySelectorAll("main button, main input, main a, main summary")].filter(
        (element) => element.getClientRects().length);
    return shown.map((element) => [element.outerHTML.slice(0, 90), element.getBoundingClientRect()]).filter(
        ([, box]) => box.height < 40 || box.width < 40).map(([name, box]) => [name, box.width, box.height])"""


@pytest.fixture
def phone(page: Browser) -> Iterator[Browser]:
    """Open the page on a small screen that is touched."""
    page.devtools("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=2, mobile=True)
    page.devtools("Emulation.setTouchEmulationEnabled", enabled=True)
    yield page
    page.devtools("Emulation.setTouchEmulationEnabled", enabled=False)
    page.devtools("Emulation.clearDeviceMetricsOverride")


def focus(page: Browser, selector: str) -> None:
    page.run("document.querySelector(arguments[0]).focus()", selector)


def loop_of(page: Browser, track: str = "#track-1") -> list[float] | None:
    """Return the begin and the end of the loop as the page tells them, seconds."""
    told = state(page, track)["loop"]
    return None if told == "none" else [float(time.removeprefix("0:")) for time in told.split(" – ")]


def watch_the_loop(page: Browser, begin: float, end: float, turns: int = 2) -> None:
    """Watch a playing player pass through its loop: every lane stays inside, and all are synchronised at each beginning."""
    last, returned = begin, 0
    deadline = time.monotonic() + 20
    while returned < turns:
        assert time.monotonic() < deadline, "the loop never returned to its beginning"
        times = state(page)["times"]
        assert begin - 0.05 <= min(times) <= max(times) < end + 0.2
        if times[0] < last - 0.1:
            wait_until_playing(page, after=begin + 0.02)
            assert state(page)["times"][0] < end
            returned += 1
        last = times[0]


@needs_browser
def test_faders_set_the_volume_of_their_lane_only(page: Browser) -> None:
    assert state(page)["volumes"] == [1.0] * 9
    focus(page, lane(4, ".fader"))
    page.press("ArrowLeft")
    assert state(page)["volumes"] == [1.0] * 3 + [0.99] + [1.0] * 5
    assert state(page)["slider"] == 0  # the arrow moved the fader and did not seek
    for value, volume, shown, told in ((50, 0.5, "−6.0 dB", "50 %, −6.0 dB"), (0, 0.0, "silent", "0 %, silent")):
        page.run(
            "const fader = document.querySelector(arguments[0]); fader.value = arguments[1]; "
            "fader.dispatchEvent(new Event('input'))",
            lane(4, ".fader"),
            value,
        )
        assert state(page)["volumes"][3] == volume
        assert page.run("return document.querySelector(arguments[0]).textContent", lane(4, ".gain")) == shown
        assert page.run("return document.querySelector(arguments[0]).getAttribute('aria-valuetext')", lane(4, ".fader")) == told
    page.press("End")
    page.press("k")  # every other key still acts on the player
    wait_until_playing(page)
    assert state(page)["volumes"] == [1.0] * 9
    assert state(page, "#track-2")["volumes"] == [1.0] * 9


@needs_browser
def test_mix_stems_plays_every_estimate_and_returns_to_the_mixture(page: Browser) -> None:
    page.click("#track-1 .mix")
    assert state(page)["heard"] == ESTIMATES
    assert state(page)["told"] == "Hearing: all estimates"
    page.click(lane(2, ".solo"))  # solo mutes the others
    assert state(page)["heard"] == [1]
    page.click(lane(2, ".solo"))
    page.click(lane(4, ".mute"))
    assert state(page)["heard"] == [1, 5, 7]
    assert page.run("return document.querySelector('#track-1 .mix').getAttribute('aria-pressed')") == "false"
    focus(page, "#track-1 .play")
    page.press("x")
    assert state(page)["heard"] == ESTIMATES
    page.press("x")
    assert state(page)["heard"] == [0]


@needs_browser
def test_a_drag_sets_a_loop_that_every_lane_follows(page: Browser) -> None:
    assert loop_of(page) is None
    page.drag(lane(3, ".waveform"), 4 / SECONDS, 3 / SECONDS)  # backwards
    assert loop_of(page) == pytest.approx([3, 4], abs=0.11)
    assert state(page)["slider"] == pytest.approx(3, abs=0.05)  # playing begins with the loop
    page.click("#track-1 .mix")
    page.click("#track-1 .play")
    wait_until_playing(page)
    watch_the_loop(page, 3, 4)
    page.run("players[0].seek(arguments[0])", 9)  # outside
    watch_the_loop(page, 3, 4, turns=1)
    page.click("#track-1 .loop-clear")
    assert loop_of(page) is None
    wait_until_playing(page, after=4.3)
    box = "const box = document.querySelector('#track-1 .region'); return box.getBoundingClientRect().width"
    assert page.run(box) == 0
    assert loop_of(page, "#track-2") is None


@needs_browser
def test_the_region_is_drawn_over_its_place(page: Browser) -> None:
    page.drag(lane(1, ".spectrogram"), 0.25, 0.75)
    place = page.run("""
        const region = document.querySelector("#track-1 .region").getBoundingClientRect();
        const picture = document.querySelector("#track-1 .spectrogram").getBoundingClientRect();
        return [(region.left - picture.left) / picture.width, (region.right - picture.left) / picture.width]""")
    assert place == pytest.approx([0.25, 0.75], abs=0.01)
    page.click(lane(1, ".spectrogram"), x=0.5)  # a click seeks and leaves the loop
    assert state(page)["slider"] == pytest.approx(SECONDS / 2, abs=0.05)
    assert loop_of(page) == pytest.approx([SECONDS / 4, 3 * SECONDS / 4], abs=0.11)


@needs_browser
def test_a_loop_up_to_the_end_of_the_song_returns(page: Browser) -> None:
    page.run("players[0].seek(arguments[0])", SECONDS - 1)
    focus(page, "#track-1 .play")
    page.press("[")
    assert loop_of(page) == [SECONDS - 1, SECONDS]
    page.press("k")
    wait_until_playing(page, after=SECONDS - 1)
    watch_the_loop(page, SECONDS - 1, SECONDS)


@needs_browser
def test_a_loop_returns_while_the_page_draws_nothing(page: Browser) -> None:
    """Timers hold the loop, as a hidden page and one of reduced motion seldom draw."""
    page.run("window.requestAnimationFrame = () => 0; players[0].loop.set(2, 2.6); players[0].seek(2)")
    page.click("#track-1 .play")
    wait_until_playing(page, after=2.05)
    watch_the_loop(page, 2, 2.6)


@needs_browser
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(3, 5, [3, 5]), (5, 3, [3, 5]), (-1, 99, [0, 12]), (12, 12, [11.4, 12]), (4, 4, [4, 4.2]), (0, 0, [0, 0.2])],
)
def test_a_loop_lies_in_the_song_and_is_never_empty(page: Browser, one: float, other: float, expected: list[float]) -> None:
    page.run("players[0].loop.set(Math.max(0, arguments[0]), arguments[1])", one, other)
    assert loop_of(page) == pytest.approx(expected, abs=0.11)
    page.run("players[0].seek(arguments[0])", 99)
    page.click("#track-1 .play")
    wait_until_playing(page, after=expected[0] - 0.01)


@needs_browser
def test_the_mixer_works_by_keyboard_alone(page: Browser) -> None:
    page.run("document.activeElement.blur()")
    page.press("k")  # no player was used, and there are two
    assert all(state(page)["paused"] + state(page, "#track-2")["paused"])
    focus(page, "#track-1 .seek input")
    page.press("ArrowRight")
    begin = state(page)["slider"]
    page.press("[")
    page.press("Shift", "ArrowRight")
    page.press("]")
    assert loop_of(page) == pytest.approx([begin, begin + 1], abs=0.11)
    page.press(" ")
    wait_until_playing(page, after=begin)
    watch_the_loop(page, begin, begin + 1, turns=1)
    page.press(" ")
    page.press("c")
    assert loop_of(page) is None
    focus(page, lane(4, ".fader"))
    page.press("m")
    assert state(page)["heard"] == [0, 3]
    page.press("s")
    assert state(page)["heard"] == state(page)["solo"] == [3]
    focus(page, lane(6, ".fader"))
    page.press("Shift", "s")
    assert state(page)["heard"] == [3, 5]
    page.press("Home")
    assert state(page)["volumes"][5] == 0
    page.run("document.activeElement.blur()")
    scrolled = page.run("return scrollY")
    page.press(" ")  # without a focus, keys go to the player that was used last
    wait_until_playing(page)
    assert page.run("return scrollY") == scrolled
    page.press(" ")
    assert all(state(page)["paused"])


@needs_browser
def test_brackets_typed_with_altgr_set_the_loop(page: Browser) -> None:
    press = """
        const event = {key: arguments[0], code: "Digit8", ctrlKey: arguments[1], altKey: arguments[2], bubbles: true};
        document.querySelector("#track-1 .play").dispatchEvent(new KeyboardEvent("keydown", event))"""
    page.run("players[0].seek(4)")
    page.run(press, "[", True, False)  # Ctrl+[ is not ours
    assert loop_of(page) is None
    page.run(press, "[", True, True)  # AltGr on Windows
    assert loop_of(page) == [4, SECONDS]
    page.run("players[0].seek(6)")
    page.run(press, "]", False, True)  # Option on a Mac
    assert loop_of(page) == [4, 6]
    assert state(page)["solo"] == []


@needs_browser
def test_downloads_name_the_file_that_is_played(page: Browser, written: Path) -> None:
    shown = Page(written)
    links = page.run("return [...document.querySelectorAll('#track-1 .download')].map((link) => [link.href, link.textContent])")
    played = page.run("return [...document.querySelectorAll('#track-1 audio')].map((audio) => audio.src)")
    assert [link for link, _ in links] == played
    for (name, link), (_, told) in zip(shown.downloads, links, strict=False):
        file = written.parent / unquote(link)
        assert f"{file.stat().st_size / 1e3:.1f} kB" == told.removeprefix("FLAC ") or file.stat().st_size >= 1e5
        assert soundfile.info(file).duration == SECONDS
        assert name.startswith("one _img src=x onerror=_document.title=1__ & _two_ - ")
    assert [name.split(" - ")[-1] for name, _ in shown.downloads[:3]] == [
        "mixture.flac",
        "bass estimate.flac",
        "bass reference.flac",
    ]
    assert len({name for name, _ in shown.downloads}) == len(shown.downloads) == 18


@needs_browser
def test_an_embedded_page_saves_its_audio(browser: Browser, tmp_path: Path) -> None:
    song = make_songs(tmp_path / "songs", ["a song"], seconds=1.0)[0]
    report.write_page(tmp_path / "page.html", [song], title="x")
    original = next((tmp_path / "page_audio").rglob("3_drums_estimate.flac")).read_bytes()
    plain = sum(path.stat().st_size for path in (tmp_path / "page_audio").rglob("*.*"))
    report.write_page(tmp_path / "page.html", [song], title="x", embed=True)
    assert (tmp_path / "page.html").stat().st_size < 1.4 * plain + 60_000  # every file once, in base64
    saved = tmp_path / "saved"
    browser.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
    for press in (lambda: browser.click(lane(4, ".download")), lambda: browser.press("Enter")):
        shutil.rmtree(saved, ignore_errors=True)
        saved.mkdir()
        browser.open(tmp_path / "page.html")
        focus(browser, lane(4, ".download"))
        press()
        deadline = time.monotonic() + 20
        while not (saved / "a song - drums estimate.flac").exists():
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.02)
        assert (saved / "a song - drums estimate.flac").read_bytes() == original
        assert browser.run("return location.href") == (tmp_path / "page.html").as_uri()


@pytest.mark.parametrize(
    ("song", "expected"),
    [
        ("plain", "plain - vocals estimate.flac"),
        ("album/01. Song?", "album_01. Song_ - vocals estimate.flac"),
        ('<a>:"|*\\', "_a______ - vocals estimate.flac"),
        ("..", "_ - vocals estimate.flac"),
        (" .hidden. ", "hidden - vocals estimate.flac"),
        ("a\nb\u202ec\udce9", "a_b_c_ - vocals estimate.flac"),
        ("猫 Ünï 🎷", "猫 Ünï 🎷 - vocals estimate.flac"),
        ("🎷" * 200, "🎷" * 25 + " - vocals estimate.flac"),
    ],
)
def test_names_of_downloads_are_valid_everywhere(song: str, expected: str) -> None:
    assert file_name(song, Lane("estimate", "vocals", "", "", "", 1)) == expected
    assert len(file_name(song, Lane("reference", "🎷" * 200, "", "", "", 1)).encode()) < 255


@needs_browser
def test_on_a_phone_nothing_overflows_and_every_target_is_large(phone: Browser) -> None:
    phone.run("for (const details of document.querySelectorAll('details')) details.open = true; players[0].loop.set(1, 2)")
    assert phone.run("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    assert phone.run(TARGETS) == []
    fader = "return document.querySelector('#track-1 .fader').getBoundingClientRect().width"
    assert phone.run(fader) >= 100
    phone.click("#track-1 .mix")
    assert state(phone)["heard"] == ESTIMATES


@needs_browser
def test_a_finger_sets_a_loop_and_seeks(phone: Browser) -> None:
    phone.drag(lane(1, ".waveform"), 0.25, 0.5, kind="touch")
    assert loop_of(phone) == pytest.approx([SECONDS / 4, SECONDS / 2], abs=0.2)


@needs_browser
def test_a_device_that_sets_the_volume_itself_is_told(browser: Browser, written: Path) -> None:
    """On iOS, the volume of an <audio> element is always 1."""
    fixed = "Object.defineProperty(HTMLMediaElement.prototype, 'volume', {get: () => 1, set: () => {}})"
    script = browser.devtools("Page.addScriptToEvaluateOnNewDocument", source=fixed)["identifier"]
    browser.open(written)
    browser.devtools("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    faders = (
        "return [...document.querySelectorAll('#track-1 .fader')].map((f) => [f.disabled, f.getAttribute('aria-valuetext')])"
    )
    assert browser.run(faders) == [[True, "set by the buttons of this device"]] * 9
    assert browser.run("return document.querySelector('#track-1 .gain').textContent") == "fixed"


@needs_browser
def test_without_javascript_there_are_numbers_and_plain_players(browser: Browser, written: Path) -> None:
    browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(written)
        root = browser.devtools("DOM.getDocument")["root"]["nodeId"]

        def boxes(selector: str) -> list[bool]:
            """Return for each element whether it takes up room."""
            shown = []
            for node in browser.devtools("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"]:
                try:
                    shown.append(browser.devtools("DOM.getBoxModel", nodeId=node)["model"]["height"] > 0)
                except AssertionError:  # no box
                    shown.append(False)
            return shown

        assert boxes("#track-1 audio[controls]") == [True] * 9
        assert boxes("#track-1 .download") == [True] * 9
        assert boxes(".scores table") == [True]
        assert not any(boxes("#track-1 button, #track-1 .fader, #track-1 .seek"))
        assert boxes("noscript p") == [True]
    finally:
        browser.devtools("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(written)
    assert browser.run("return getComputedStyle(document.querySelector('audio')).display") == "none"
