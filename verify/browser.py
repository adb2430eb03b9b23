"""A headless Chromium, driven by ChromeDriver over the W3C WebDriver protocol; both are Debian's packages."""

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
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that WebDriver names an element by
_STARTED = re.compile(r"started successfully on port (\d+)")


class MissingBrowserError(Exception):
    """There is no Chromium or no ChromeDriver; the message says how to get them."""


class Browser:
    """One browser with one page; leaving the context ends it."""

    def __enter__(self) -> Self:
        chromium, driver = _found("chromium", "chromium"), _found("chromedriver", "chromium-driver")
        self._profile = TemporaryDirectory()
        self._driver = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._driver.stdout is None:
            raise MissingBrowserError(driver)
        port = next(found[1] for line in self._driver.stdout if (found := _STARTED.search(line)))
        self._session = f"http://127.0.0.1:{port}/session"
        # Chromium has no sandbox for root.
        flags = [*_FLAGS, f"--user-data-dir={self._profile.name}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        asked = {
            "goog:chromeOptions": {"binary": chromium, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self._call("POST", "", {"capabilities": {"alwaysMatch": asked}})
        self._session += f"/{answer['sessionId']}"
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
        """Run a script's body in the page, and give what it returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": arguments})

    def run_async(self, script: str, *arguments: object) -> Any:
        """Run a script's body that gives its answer to the last of its arguments, a function."""
        return self._call("POST", "/execute/async", {"script": script, "args": arguments})

    def settle(self) -> None:
        """Wait until the page has drawn what was asked of it."""
        self.run_async("setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]())))")

    def click(self, selector: str) -> None:
        """Click an element as a person does."""
        self._call("POST", f"/element/{self._element(selector)}/click", {})
        self.settle()

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": text})
        self.settle()

    def press(self, key: str) -> None:
        """Press a key, whatever has the focus."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def prefer(self, scheme: str, media: str = "screen") -> None:
        """Prefer a light or dark page, on a screen or on paper."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=features)

    def size(self, width: int, height: int) -> None:
        """Give the page so many pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def screenshot(self) -> bytes:
        """Take a picture of what is in sight, as PNG."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def console(self) -> list[str]:
        """Tell what was logged to the console since the last time, the browser's own complaints included."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Tell the addresses of what was asked for since the last time."""
        events = [
            json.loads(entry["message"])["message"] for entry in self._call("POST", "/se/log", {"type": "performance"})
        ]
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]

    def devtools(self, command: str, **parameters: object) -> Any:
        """Give a command of the DevTools protocol."""
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
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            told = json.load(error)["value"]
            message = f"{method} {path}: {told['error']}: {told['message']}"
            raise AssertionError(message) from None


def _found(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed: install it, on Debian as root by apt-get install {package}"
        raise MissingBrowserError(message)
    return path
