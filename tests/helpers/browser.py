"""A headless Chromium for tests, driven through chromedriver's protocol (W3C WebDriver: JSON over HTTP).

with Browser() as browser:
    browser.open(Path("page.html"))
    browser.run("return document.title")
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
MISSING = None if CHROMIUM and CHROMEDRIVER else "chromium and chromedriver are not installed (Debian: chromium-driver)"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KEYS = {"ArrowLeft": "\ue012", "ArrowRight": "\ue014", "ArrowDown": "\ue015", "Home": "\ue011", "End": "\ue010"}
KEYS |= {"Tab": "\ue004", "Enter": "\ue007", "Shift": "\ue008", "Control": "\ue009", "Alt": "\ue00a"}


class Browser:
    """A Chromium with an empty profile, the messages its pages log, and the URLs they request."""

    def __enter__(self) -> Browser:
        self.open_things = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.open_things.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._call("DELETE", "")
        self.open_things.close()

    def _start(self) -> None:
        profile = self.open_things.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        driver = subprocess.Popen([CHROMEDRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.open_things.callback(driver.wait)
        self.open_things.callback(driver.terminate)
        self.session = f"http://127.0.0.1:{port}/session"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1200,900"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": logs}
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = self._call("POST", "", capabilities={"alwaysMatch": wanted})
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                break
        self.session += f"/{answer['sessionId']}"

    def _call(self, method: str, path: str, **arguments: object) -> Any:
        data = json.dumps(arguments).encode() if method == "POST" else None
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.request.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error
        except urllib.request.URLError as error:
            raise error.reason from error

    def open(self, page: Path, fragment: str = "") -> None:
        """Open a page from disk, at a fragment such as "#track-2"."""
        self._call("POST", "/url", url=page.resolve().as_uri() + fragment)

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page; return its result, or that of the promise it returns."""
        return self._call("POST", "/execute/sync", script=script, args=list(arguments))

    def wait(self, condition: str, *arguments: object) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + 20
        while not self.run(f"return Boolean({condition})", *arguments):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            time.sleep(0.02)

    def click(self, selector: str, x: float = 0.5, y: float = 0.5, holding: str | None = None) -> None:
        """Click on an element, at fractions of its width and height, while holding a key."""
        place = """
            const element = document.querySelector(arguments[0]);
            element.scrollIntoView({block: "center", behavior: "instant"});
            const box = element.getBoundingClientRect();
            return [Math.round(box.left + box.width * arguments[1]), Math.round(box.top + box.height * arguments[2])]"""
        at_x, at_y = self.run(place, selector, x, y)
        pointer = [
            {"type": "pointerMove", "x": at_x, "y": at_y, "duration": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        actions = [{"type": "pointer", "id": "mouse", "actions": pointer}]
        if holding:
            pauses = [{"type": "pause"}] * 3
            keys = [{"type": "keyDown", "value": KEYS[holding]}, *pauses[:2], {"type": "keyUp", "value": KEYS[holding]}]
            pointer.insert(0, {"type": "pause"})
            keys = [keys[0], *pauses, keys[-1]]
            actions.append({"type": "key", "id": "keyboard", "actions": keys})
        self._call("POST", "/actions", actions=actions)

    def drag(self, selector: str, begin: float, end: float, kind: str = "mouse") -> None:
        """Drag across an element, between fractions of its width, with a "mouse" or by "touch"."""
        place = """
            const element = document.querySelector(arguments[0]);
            element.scrollIntoView({block: "center", behavior: "instant"});
            const box = element.getBoundingClientRect();
            return arguments[1].map((x) => Math.round(box.left + box.width * x)).concat(Math.round(box.top + box.height / 2))"""
        *stops, y = self.run(place, selector, [begin, (begin + end) / 2, end])
        moves = [{"type": "pointerMove", "x": x, "y": y, "duration": 20} for x in stops]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        parameters = {"pointerType": kind}
        self._call("POST", "/actions", actions=[{"type": "pointer", "id": kind, "parameters": parameters, "actions": actions}])

    def press(self, *keys: str) -> None:
        """Press one key, such as "k" or "ArrowRight", or several together, such as "Shift", "Tab"."""
        values = [KEYS.get(key, key) for key in keys]
        strokes = [{"type": "keyDown", "value": value} for value in values]
        strokes += [{"type": "keyUp", "value": value} for value in reversed(values)]
        self._call("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def devtools(self, command: str, **parameters: object) -> Any:
        """Run a command of the DevTools protocol; return its result."""
        return self._call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def console(self) -> list[str]:
        """Return the messages logged since the last call."""
        return [entry["message"] for entry in self._call("POST", "/se/log", type="browser")]

    def requests(self) -> list[str]:
        """Return the URLs requested since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._call("POST", "/se/log", type="performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path: Path, width: int, scheme: str, height: int | None = None) -> None:
        """Write a PNG of the whole page.

        Args:
            path: the file to write.
            width: of the page, pixels.
            scheme: "light" or "dark".
            height: of the picture, pixels, to show only the top of the page (default: all of it).
        """
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        time.sleep(0.2)
        height = height or self.run("return Math.ceil(document.documentElement.getBoundingClientRect().height)")
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(0.2)  # lazy pictures load
        shot = self.devtools("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        self.devtools("Emulation.clearDeviceMetricsOverride")
