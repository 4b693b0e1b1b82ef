"""A real browser for tests: Chromium without a window, told what to do through a pipe in its own protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

import pytest

from partial_equiv import drawing

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",  # root, as in many containers, may not use it; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Enter": 13, " ": 32}
SECONDS = 60


class Chromium:
    """A running browser.

    Its messages come on descriptor 4 and go in on descriptor 3, each ended by a zero byte.
    """

    def __init__(self, folder):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None or shutil.which("bash") is None:
            pytest.skip("no Chromium on PATH: apt-get install chromium")
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        redirected = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", redirected, "bash", program, *QUIET, f"--user-data-dir={folder}", "about:blank"]
        self._log = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self.events = b"", 0, []

    def close(self):
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._log.close()

    def call(self, method, session=None, **parameters):
        """Return the result of one command, events that come before it kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            found = self._read(deadline)
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self.events.append(found)

    def wait_for(self, method, session):
        """Return the parameters of the first event of a kind since the page was opened."""
        deadline = time.monotonic() + SECONDS
        while True:
            for event in self.events:
                if event["method"] == method and event.get("sessionId") == session:
                    return event["params"]
            self.events.append(self._read(deadline))

    def _read(self, deadline):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"Chromium said nothing for {SECONDS} s"
            chunk = os.read(self._in, 1 << 16)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path, width=1000, height=800, **settings):
        """Return a page that shows a file; settings are those of `Page`."""
        return Page(self, path, width, height, **settings)


class Page:
    """A file as the browser shows it.

    Args:
        browser: The browser.
        path: The file.
        width: Of the window, in pixels.
        height: Of the window, in pixels.
        dark: Whether the reader prefers dark pages.
        media: "screen" or "print".
        scripts: Whether scripts may run.
    """

    def __init__(self, browser, path, width, height, *, dark=False, media="screen", scripts=True):
        self.browser = browser
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=path.resolve().as_uri())
        browser.wait_for("Page.loadEventFired", self.session)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def run(self, expression):
        """Return the value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def complaints(self):
        """Return what the console holds of errors and warnings, and every address that was asked for but the file."""
        self.run("1")  # whatever was on its way has arrived
        told = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            method, facts = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                told.append(facts["exceptionDetails"]["text"])
            if method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
                told.append(str(facts["args"]))
            if method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
                told.append(facts["entry"]["text"])
            if method == "Network.requestWillBeSent" and not facts["request"]["url"].startswith(("data:", "file:")):
                told.append(facts["request"]["url"])
        return told

    def press(self, key, times=1):
        """Press a key where the focus is."""
        text = {" ": " ", "Enter": "\r"}.get(key)
        facts = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def point(self, x, y):
        """Move the mouse to a place of the window, in pixels."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, whole=False):
        """Return the window, or the whole page, as the content of a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def pixels(self):
        """Return the window, uint8 [Y, X, RGB]."""
        return drawing.pixels(self.screenshot())

    def pdf(self):
        """Return the page as it is printed, the content of a PDF file."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
