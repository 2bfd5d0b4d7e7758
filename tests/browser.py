"""A real browser for tests: Chromium without a window, spoken to through two pipes.

The DevTools protocol is JSON messages with a zero byte after each; `--remote-debugging-pipe` reads
them from descriptor 3 and answers on 4, so nothing but the browser is needed.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    # Whatever a page asks for, nothing leaves the machine; the request is seen all the same.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
TIMEOUT_S = 60.0
LAYOUT = """({
  width: document.documentElement.clientWidth,
  content: document.documentElement.scrollWidth,
  pictures: Array.from(document.images, image => [image.complete, image.naturalWidth]),
  beyond: Array.from(document.querySelectorAll('body *'))
    .filter(each => !each.closest('.wide') || each.matches('.wide'))
    .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(each => each.tagName),
})"""


@dataclass
class Visit:
    """What a browser saw of a page: complaints, requests, pictures, widths in CSS pixels."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    picture_widths: list[int] = field(default_factory=list)
    width: int = 0
    content_width: int = 0
    beyond: list[str] = field(default_factory=list)
    screenshot: bytes = b""


class Browser:
    """A running browser with one blank page."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands = commands
        self.answers = answers
        self.unread = b""
        self.events: list[dict[str, Any]] = []
        self.number = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; what happens meanwhile is kept as events."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def receive(self) -> dict[str, Any]:
        """Return the next message of the browser."""
        while b"\0" not in self.unread:
            received = os.read(self.answers, 1 << 20)
            assert received, "the browser ended"
            self.unread += received
        message, _, self.unread = self.unread.partition(b"\0")
        return dict(json.loads(message))

    def wait_for(self, method: str) -> None:
        """Wait for an event of the page."""
        give_up = time.monotonic() + TIMEOUT_S
        while not any(event.get("method") == method for event in self.events):
            assert time.monotonic() < give_up, f"no {method} within {TIMEOUT_S:.0f} s"
            self.events.append(self.receive())

    def open(self, url: str) -> None:
        """Open a page and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page, None for `undefined`."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Return what the page has said to the console, or thrown."""
        return [text for event in self.events if (text := complaint(event))]

    def requests(self, url: str) -> list[str]:
        """Return what the page has asked for besides itself."""
        return [request for event in self.events if (request := requested(event, url))]

    def prefer(self, scheme: str) -> None:
        """Ask pages for the colours of a scheme, `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key: str) -> None:
        """Press and release a key, by its name, where the page has its focus."""
        code = {"Enter": 13, "Escape": 27}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    def point_at(self, selector: str) -> None:
        """Move the mouse over the middle of the first element that a selector finds."""
        place = self.evaluate(
            f"(async () => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({block: 'center'});"
            # The page is told that it was scrolled with the next picture.
            "for (const _ of [1, 2]) await new Promise(requestAnimationFrame);"
            "const box = found.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])

    def visit(self, url: str, width: int) -> Visit:
        """Open a page in a window of this width and look at it."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.open(url)
        layout = self.evaluate(LAYOUT)
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return Visit(
            complaints=self.complaints(),
            requests=self.requests(url),
            picture_widths=[size if complete else 0 for complete, size in layout["pictures"]],
            width=layout["width"],
            content_width=layout["content"],
            beyond=layout["beyond"],
            screenshot=base64.b64decode(shot["data"]),
        )


def complaint(event: dict[str, Any]) -> str:
    """Return what an event says to the console or throws, or nothing."""
    parameters = event.get("params", {})
    if event.get("method") == "Log.entryAdded":
        return str(parameters["entry"]["text"])
    if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
        return json.dumps(parameters)
    return ""


def requested(event: dict[str, Any], page: str) -> str:
    """Return what an event asks for besides the page itself and data inside of it."""
    if event.get("method") != "Network.requestWillBeSent":
        return ""
    url = str(event["params"]["request"]["url"])
    return "" if url == page or url.startswith("data:") else url


def find_browser() -> str | None:
    """Return the program of a browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def open_browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with a new profile, and end it."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            f'exec "$@" 3<&{command_read} 4>&{answer_write}',
            "browser",
            program,
            *FLAGS,
            f"--user-data-dir={profile}",
        ],
        pass_fds=(command_read, answer_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_read)
    os.close(answer_write)
    try:
        yield Browser(command_write, answer_read)
    finally:
        os.close(command_write)
        os.close(answer_read)
        process.terminate()
        process.wait(TIMEOUT_S)
