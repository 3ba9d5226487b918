"""Drives headless Chromium over its debugging protocol: just enough to test a page.

The browser is started with a profile of its own and ended by its own process id.
"""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


class Page:
    """One tab. Console errors, exceptions and requests are collected while it is used."""

    def __init__(self, socket):
        self._socket = socket
        self._ids = itertools.count(1)
        self.errors, self.requests = [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Sends a command and returns its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def size(self, width, height, scale=1):
        """Sets the viewport in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def open(self, path, fragment="", ready="document.documentElement?.dataset.ready === 'yes'"):
        """Loads a local file and waits until ``ready`` holds."""
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.call("Page.navigate", url=Path(path).absolute().as_uri() + fragment)
        self.wait(ready)

    def eval(self, expression):
        """Value of a JavaScript expression; promises are awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def wait(self, expression, timeout=300.0):
        """Polls until an expression is true."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.eval(expression):
                return
            time.sleep(0.05)
        raise AssertionError(f"never became true: {expression}; errors: {self.errors}")

    def key(self, key, *, shift=False):
        """Presses a key on the focused element."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 if shift else 0, **text
            )

    def click(self, x, y, *, shift=False):
        """Moves to a point of the viewport and clicks it."""
        where = {"x": x, "y": y, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **where)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)

    def draw_all(self):
        """Scrolls through the page so that every figure is drawn."""
        height = self.eval("document.documentElement.scrollHeight")
        for top in range(0, int(height), 500):
            self.eval(f"scrollTo({{top: {top}, behavior: 'instant'}})")
            self.eval("new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")
        self.eval("scrollTo({top: 0, behavior: 'instant'})")

    def screenshot(self, path, *, top=0, height=None, width=None):
        """Writes a PNG of a strip of the page."""
        size = self.eval("[innerWidth, document.documentElement.scrollHeight]")
        clip = {
            "x": 0,
            "y": top,
            "width": width or size[0],
            "height": height or size[1],
            "scale": 1,
        }
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser():
    """A running Chromium with one page; ended and cleaned up on leaving."""
    from websocket import create_connection

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [BROWSER, *FLAGS, f"--user-data-dir={home}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = _port(Path(home), process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as reply:
                tabs = json.load(reply)
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            socket = create_connection(address, timeout=300)
            try:
                yield Page(socket)
            finally:
                socket.close()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(home, process, timeout=300.0):
    file = home / "DevToolsActivePort"
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"chromium ended with status {process.returncode}")
        if file.exists() and (text := file.read_text()).count("\n"):
            return int(text.split("\n")[0])
        time.sleep(0.05)
    raise RuntimeError("chromium did not open its debugging port")
