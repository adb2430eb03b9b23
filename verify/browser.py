"""A headless Chromium, controlled by ChromeDriver over the W3C WebDriver protocol; both are Debian packages."""

import base64
import json
import os
import re
import shutil
import subprocess
import types
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id in the WebDriver protocol
_STARTED = re.compile(r"started successfully on port (\d+)")


class MissingBrowserError(Exception):
    """Chromium or ChromeDriver is not installed; the message has the command that installs it."""


class Browser:
    """A browser with one page; it ends with the context."""

    def __enter__(self) -> Self:
        chromium, driver = _program("chromium", "chromium"), _program("chromedriver", "chromium-driver")
        self._profile = TemporaryDirectory()
        self._driver = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._driver.stdout is None:
            raise MissingBrowserError(driver)
        port = next(found[1] for line in self._driver.stdout if (found := _STARTED.search(line)))
        self._session = f"http://127.0.0.1:{port}/session"
        # Chromium's sandbox doesn't run as root.
        flags = [*_FLAGS, f"--user-data-dir={self._profile.name}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        capabilities = {
            "goog:chromeOptions": {"binary": chromium, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self._session += f"/{session['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.communicate()
            self._profile.cleanup()

    def open(self, page: Path) -> None:
        """Load a file, and wait until it is loaded."""
        self._call("POST", "/url", {"url": page.as_uri()})

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of a function in the page, and return its result."""
        return self._call("POST", "/execute/sync", {"script": script, "args": arguments})

    def run_async(self, script: str, *arguments: object) -> Any:
        """Run the body of a function in the page, and return what it passes to its last argument, a callback."""
        return self._call("POST", "/execute/async", {"script": script, "args": arguments})

    def wait_for_frame(self) -> None:
        """Wait until the page has rendered its changes."""
        self.run_async("setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]())))")

    def click(self, selector: str) -> None:
        """Click an element."""
        self._call("POST", f"/element/{self._element(selector)}/click", {})
        self.wait_for_frame()

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": text})
        self.wait_for_frame()

    def press(self, key: str) -> None:
        """Press a key in the focused element."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def prefer(self, scheme: str, media: str = "screen") -> None:
        """Emulate a preferred color scheme, on screen or in print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=features)

    def size(self, width: int, height: int) -> None:
        """Set the size of the page in pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def screenshot(self) -> bytes:
        """Return a PNG of the visible part of the page."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def console(self) -> list[str]:
        """Return the messages of the console since the last call, including the browser's own."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Return the URLs that were requested since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self._call("POST", "/se/log", {"type": "performance"})
        ]
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]

    def devtools(self, command: str, **parameters: object) -> Any:
        """Run a command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _element(self, selector: str) -> str:
        found: dict[str, str] = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return found[_ELEMENT]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._session + path, content, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            details = json.load(error)["value"]
            message = f"{method} {path}: {details['error']}: {details['message']}"
            raise AssertionError(message) from None


def _program(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed: on Debian, install it as root with apt-get install {package}"
        raise MissingBrowserError(message)
    return path
