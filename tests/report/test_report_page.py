"""The page in a browser: players in step, switching, keys, no network."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from my_submission.src import report
from tests.helpers.browser import MISSING, Browser
from tests.helpers.report_page import NAMES, SECONDS, lane, make_songs, state, wait_until_playing

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def test_the_page_opens_with_its_names_pictures_and_chart(page: Browser) -> None:
    assert page.run("return document.title") == "Evaluation of <b>x</b>"
    heads = page.run("return [...document.querySelectorAll('h3')].map((head) => head.textContent)")
    assert heads == [NAMES[0], repr(NAMES[1])]
    pictures = page.run("return [...document.querySelectorAll('.pictures img')].map((img) => [img.alt, img.complete])")
    assert len(pictures) == 2 * 9 * 2
    assert pictures[:2] == [["Waveform of mixture", True], ["Spectrogram of mixture", True]]
    page.run("for (const image of document.images) image.loading = 'eager'")
    page.wait("[...document.images].every((image) => image.complete)")
    assert page.run("return [...document.images].every((image) => image.naturalWidth > 0)")
    assert state(page)["heard"] == [0]
    assert state(page)["told"] == "Hearing: mixture"
    assert page.run("return document.querySelectorAll('main img:not(.pictures img)').length") == 0
    described = page.run("return document.querySelector('svg.chart desc').textContent")
    assert "this model: bass 14.0, drums 14.0" in described


def test_no_audio_is_read_before_it_is_played(browser: Browser, written: Path) -> None:
    browser.open(written)
    browser.requests()
    browser.open(written)
    browser.wait("document.readyState === 'complete'")
    assert [url for url in browser.requests() if url.endswith(".flac")] == []
    browser.click("#track-2 .play")
    wait_until_playing(browser, "#track-2")
    asked = {url.split("_audio/")[1] for url in browser.requests() if url.endswith(".flac")}
    assert {name.split("_")[0] for name in asked} == {"002"}
    assert len(asked) == 9


def test_lanes_play_together_and_switching_keeps_the_position(page: Browser) -> None:
    page.click("#track-1 .play")
    wait_until_playing(page, after=0.3)
    assert state(page)["button"] == "Pause"
    heard, last = 0, 0.0
    for number in (2, 3, 2, 9, 1):  # estimate, reference, back, another reference, the mixture
        before = state(page)
        assert before["heard"] == [heard]
        assert before["times"][heard] >= last
        page.click(lane(number, ".solo"))
        after = state(page)
        heard, last = number - 1, after["times"][number - 1]
        assert after["heard"] == after["solo"] == [heard]
        assert not any(after["paused"])
        assert max(after["times"]) - min(after["times"]) < 0.1
        passed = after["times"][0] - before["times"][0]  # neither switching to the clock's lane nor from it may jump
        assert 0 <= last - before["times"][heard] == pytest.approx(passed, abs=0.1)
    page.click("#track-1 .play")
    stopped = state(page)
    assert all(stopped["paused"])
    assert stopped["slider"] == pytest.approx(stopped["times"][0], abs=0.1)
    assert float(stopped["shown"].removeprefix("0:")) == pytest.approx(stopped["slider"], abs=0.11)
    assert stopped["button"] == "Play"
    page.click("#track-1 .play")
    wait_until_playing(page, after=stopped["slider"])


def test_solo_is_one_lane_unless_ctrl_or_shift_is_held(page: Browser) -> None:
    page.click(lane(2, ".solo"))
    page.click(lane(4, ".solo"), holding="Control")
    page.click(lane(6, ".solo"), holding="Shift")
    assert state(page)["heard"] == state(page)["solo"] == [1, 3, 5]
    assert state(page)["told"] == "Hearing: bass, estimate + drums, estimate + other, estimate"
    page.click(lane(4, ".solo"), holding="Control")
    assert state(page)["heard"] == [1, 5]
    page.click(lane(9, ".solo"))
    assert state(page)["heard"] == [8]
    page.click(lane(9, ".solo"))
    assert state(page)["heard"] == [0]  # the only lane that is not muted
    assert page.run("return document.querySelector('.lane.heard').getAttribute('aria-label')") == "mixture"


def test_mute_silences_a_lane_and_brings_it_back(page: Browser) -> None:
    assert state(page)["mute"] == [*range(1, 9)]
    page.click(lane(4, ".mute"))
    page.click(lane(6, ".mute"))
    assert state(page)["heard"] == [0, 3, 5]
    page.click(lane(1, ".mute"))
    assert state(page)["heard"] == [3, 5]
    page.click(lane(2, ".solo"))  # solo overrides mute
    assert state(page)["heard"] == [1]
    page.click(lane(2, ".mute"))  # was muted: the first click unmutes it, and it stays on solo
    page.click(lane(2, ".mute"))
    assert (state(page)["solo"], state(page)["heard"]) == ([], [3, 5])
    page.click(lane(4, ".mute"))
    page.click(lane(6, ".mute"))
    assert state(page)["told"] == "Hearing: nothing"
    page.click("#track-1 .play")
    wait_until_playing(page)  # even when no lane is heard
    page.click(lane(4, ".mute"))
    assert state(page)["heard"] == [3]


def test_keys_control_the_player(page: Browser) -> None:
    page.run("document.querySelector('#track-1 input').focus()")
    page.press("k")
    wait_until_playing(page)
    page.press(" ")
    assert all(state(page)["paused"])
    page.press("ArrowRight")
    now = state(page)["slider"]
    assert now >= 5
    page.press("Shift", "ArrowRight")
    assert state(page)["slider"] == pytest.approx(now + 1)
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert state(page)["slider"] == 0
    page.press("t")
    assert state(page)["heard"] == [1]
    page.press("t")
    assert state(page)["heard"] == [2]
    page.press("8")
    assert state(page)["heard"] == [7]
    page.press("t")
    assert state(page)["heard"] == [8]
    page.press("0")
    assert state(page)["heard"] == [0]
    page.run("arguments[0].focus()", page.run("return document.querySelector('#track-1 .lane:nth-of-type(5) .solo')"))
    page.press(" ")  # presses the button, and does not play
    assert (state(page)["heard"], state(page)["button"]) == ([4], "Play")
    assert state(page, "#track-2")["heard"] == [0]  # the other song has lanes of its own


def test_tab_reaches_everything_with_a_name_and_a_visible_focus(page: Browser) -> None:
    reached = []
    page.run("document.activeElement.blur(); document.querySelector('#track-2').open = true")
    for _ in range(100):
        page.press("Tab")
        found = page.run("""
            const element = document.activeElement, style = getComputedStyle(element);
            if (element === document.body) return null;
            return [element.getAttribute("aria-label") || element.textContent.trim(), element.tagName, style.outlineStyle]""")
        if found is None:
            break
        reached.append(found)
    assert all(name for name, _, _ in reached)
    assert {outline for _, _, outline in reached} == {"solid"}
    names = [name for name, tag, _ in reached if tag in ("BUTTON", "INPUT")]
    loop = ["Begin the loop here", "End the loop here", "Clear the loop"]
    mixture, bass = ([f"{what} {lane}" for what in ("Mute", "Solo", "Volume of")] for lane in ("mixture", "bass, estimate"))
    expected = ["Play", f"Position in {NAMES[0]}", "Mix stems", *loop, *mixture, *bass]
    assert names[: len(expected)] == expected
    assert len(names) == 2 * (6 + 3 * 9)
    links = [name for name, tag, _ in reached if tag == "A" and "download" in name]
    assert len(links) == 2 * 9
    assert re.fullmatch(r"FLAC, [\d.]+ [kM]B: download bass, estimate", links[1])


def test_clicking_a_picture_and_moving_the_slider_seek(page: Browser) -> None:
    page.click(lane(7, ".spectrogram"), x=0.25)
    assert state(page)["slider"] == pytest.approx(SECONDS / 4, abs=0.05)
    assert page.run("return document.activeElement.className") == "player"  # so that keys work from here
    left = page.run("""
        const head = document.querySelector("#track-1 .head").getBoundingClientRect();
        const picture = document.querySelector("#track-1 .spectrogram").getBoundingClientRect();
        return (head.left - picture.left) / picture.width""")
    assert left == pytest.approx(0.25, abs=0.005)
    page.click("#track-1 .play")
    wait_until_playing(page, after=SECONDS / 4)
    page.click(lane(3, ".waveform"), x=0.75)
    wait_until_playing(page, after=0.75 * SECONDS - 0.1)
    page.run("document.querySelector('#track-1 input').focus()")
    page.press("End")
    page.wait("document.querySelector('#track-1 .play').textContent.trim() === 'Play'")
    assert state(page)["slider"] == SECONDS
    assert page.run("return document.querySelector('#track-1 input').getAttribute('aria-valuetext')") == "0:12 of 0:12"
    page.click("#track-1 .play")
    page.wait("document.querySelector('#track-1 audio').currentTime < 5")  # from the beginning again


def test_playing_stops_at_the_end(page: Browser) -> None:
    page.click(lane(1, ".waveform"), x=0.97)
    page.click("#track-1 .play")
    page.wait("document.querySelector('#track-1 input').value > 11.7")
    page.wait("document.querySelector('#track-1 .play').textContent.trim() === 'Play'")
    assert state(page)["slider"] == SECONDS
    assert all(state(page)["paused"])


def test_playing_may_begin_anywhere_near_the_end(page: Browser) -> None:
    for left in (1.0, 0.5, 0.36, 0.3, 0.2, 0.05):  # seconds
        page.run("players[0].seek(arguments[0])", SECONDS - left)
        page.click("#track-1 .play")
        page.wait("!players[0].playing && players[0].position === players[0].seconds")


def test_pausing_the_audio_pauses_the_player(page: Browser) -> None:
    page.click("#track-1 .play")
    wait_until_playing(page)
    page.run("document.querySelectorAll('#track-1 audio').forEach((audio) => audio.pause())")  # as a keyboard's media key does
    page.wait("document.querySelector('#track-1 .play').textContent.trim() === 'Play'")


def test_one_song_plays_at_a_time_and_a_folded_one_stops(page: Browser) -> None:
    page.click("#track-1 .play")
    wait_until_playing(page)
    page.click("#track-2 .play")
    wait_until_playing(page, "#track-2")
    assert all(state(page)["paused"])
    page.click("#track-2 summary")
    page.wait("[...document.querySelectorAll('#track-2 audio')].every((audio) => audio.paused)")


def test_lanes_that_drift_are_brought_back(page: Browser) -> None:
    page.click("#track-1 .play")
    wait_until_playing(page)
    page.run("const a = document.querySelectorAll('#track-1 audio'); a[3].currentTime += 2; a[5].currentTime += 0.1")
    wait_until_playing(page, after=0.5)
    times = state(page)["times"]
    assert max(times) - min(times) < 0.1
    assert times[0] < 8  # the lanes moved to the clock, not the clock to the lanes


def test_an_embedded_page_needs_no_other_file(browser: Browser, tmp_path: Path) -> None:
    songs = make_songs(tmp_path / "songs", seconds=4.0)
    report.write_page(tmp_path / "page.html", songs[:1], title="x", embed=True)
    shutil.move(tmp_path / "page.html", tmp_path / "songs" / "moved.html")
    browser.console()
    browser.requests()
    browser.open(tmp_path / "songs" / "moved.html")
    browser.requests()
    browser.open(tmp_path / "songs" / "moved.html")
    browser.click(lane(3, ".waveform"), x=0.5)
    browser.click("#track-1 .play")
    wait_until_playing(browser, after=2.0)
    browser.click(lane(5, ".solo"))
    assert state(browser)["heard"] == [4]
    assert browser.console() == []
    asked = browser.requests()
    assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "songs" / "moved.html").as_uri()}


def test_without_its_audio_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    songs = make_songs(tmp_path / "songs", seconds=3.0)
    report.write_page(tmp_path / "page.html", songs[:1], title="x")
    (tmp_path / "page_audio" / "001_one_img_src_x_onerror_document_title_1_two_" / "0_mixture.flac").unlink()
    browser.open(tmp_path / "page.html")
    browser.click("#track-1 .play")
    browser.wait("document.querySelector('#track-1 .hearing').textContent.includes('cannot be played')")
    told = "Hearing: nothing. 1 of 9 files cannot be played: is the folder next to the page there?"
    assert state(browser)["told"] == told
    browser.click(lane(2, ".solo"))
    browser.wait("document.querySelectorAll('#track-1 audio')[1].currentTime > 0.1")
    shutil.rmtree(tmp_path / "page_audio")
    browser.open(tmp_path / "page.html")
    browser.click("#track-1 .play")
    browser.wait("document.querySelector('#track-1 .hearing').textContent.includes('9 of 9 files cannot be played')")
    assert state(browser)["button"] == "Play"
    browser.console()  # drops the browser's messages about the missing files


def test_thirty_songs_are_folded_and_load_lazily(browser: Browser, tmp_path: Path) -> None:
    songs = make_songs(tmp_path / "songs", [f"song {number}" for number in range(30)], seconds=0.5)
    songs[1:19] = [dataclasses.replace(song, references={}, sdr={}) for song in songs[1:19]]
    report.write_page(tmp_path / "page.html", songs, title="x")
    assert (tmp_path / "page.html").stat().st_size < 1_000_000
    browser.console()
    browser.open(tmp_path / "page.html")
    browser.requests()
    browser.open(tmp_path / "page.html")
    browser.wait("document.readyState === 'complete'")
    assert browser.run("return document.querySelectorAll('.track[open]').length") == 1
    assert {url.split("_audio/")[1][:3] for url in browser.requests() if "_audio/" in url} <= {"001"}
    browser.run("document.querySelector('tbody:nth-of-type(3) a').click()")  # a link to a song unfolds it
    browser.wait("document.querySelectorAll('.track[open]').length === 2")
    assert browser.run("return document.querySelectorAll('.track[open]')[1].querySelector('h3').textContent") == "song 19"
    assert browser.run("return document.querySelectorAll('#track-8 .lane').length") == 5
    for number in (1, 20):
        browser.click(f"#track-{number} .play")
        browser.wait("document.querySelectorAll(`#track-${arguments[0]} audio`)[8].currentTime > 0.1", number)
    assert browser.console() == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_its_window_in_light_and_dark(browser: Browser, written: Path, tmp_path: Path, width: int) -> None:
    browser.open(written)
    grounds = []
    for scheme in ("light", "dark"):
        browser.screenshot(tmp_path / f"{scheme}.png", width, scheme)
        grounds.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(245, 246, 247)", "rgb(18, 20, 23)"]
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()
    browser.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
    overflow = """
        const wide = [...document.querySelectorAll("body *:not(.wide *)")].filter(
            (element) => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest(".over"));
        return [document.documentElement.scrollWidth <= innerWidth, wide.map((element) => element.outerHTML.slice(0, 80))]"""
    assert browser.run(overflow) == [True, []]
    heights = "return [...document.querySelectorAll('#track-1 button')].map((button) => button.getBoundingClientRect().height)"
    assert max(browser.run(heights)) <= 40  # each on one line
    browser.devtools("Emulation.clearDeviceMetricsOverride")
