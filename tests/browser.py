"""A real headless Chromium, driven through its DevTools pipe as a visitor would: keys, mouse, eyes."""

import base64
import fcntl
import json
import os
import shutil
import time
from pathlib import Path

EXECUTABLE = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
TIMEOUT_S = 60
KEYS = {
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "ArrowUp": 38,
    "Home": 36,
    "End": 35,
    "Tab": 9,
}
KEYS |= {" ": 32, "Enter": 13, "Escape": 27, "Backspace": 8}
TEXTS = {" ": " ", "Enter": "\r"}


class Browser:
    """One page in one browser. Remembers what the page asked of the network and said on the console."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        assert EXECUTABLE is not None
        self._read, theirs_out = os.pipe()
        theirs_in, self._write = os.pipe()
        options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars"
        # The browser listens on 3 and answers on 4, numbers that our own pipes may have.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]
        self._pid = os.posix_spawn(
            EXECUTABLE,
            [EXECUTABLE, *options.split(), "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        self._buffer, self._id, self._session = b"", 0, None
        self.requests: list[str] = []
        self.console: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        self.call("Browser.close")
        os.waitpid(self._pid, 0)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters):
        """One command and its answer; what else arrives meanwhile is noted."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._id:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self):
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 20)
            assert data, "the browser is gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        method, of = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(of["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(of["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.console.append(str(of["args"]))
        elif method == "Log.entryAdded":
            self.console.append(of["entry"]["text"])

    def open(self, page: Path):
        self.call("Page.navigate", url=page.as_uri())
        self.wait_for("document.readyState === 'complete'")
        return self

    def resize(self, width: int, height: int, *, dark: bool = False, phone: bool = False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def ask(self, script: str):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script: str):
        end = time.monotonic() + TIMEOUT_S
        while not self.ask(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def focus(self, selector: str):
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")

    def press(self, key: str, times: int = 1):
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, code=key.strip() or "Space",
                    windowsVirtualKeyCode=KEYS[key], text=TEXTS.get(key, ""),
                )  # fmt: skip

    def click(self, selector: str):
        quoted = json.dumps(selector)
        x, y = self.ask(
            f"(() => {{ const e = document.querySelector({quoted}); e.scrollIntoView({{block: "
            "'center', behavior: 'instant'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, selector: str, text: str):
        """Put a text into a field, in the place of what was there."""
        self.focus(selector)
        self.ask("document.activeElement.select()")
        if text:
            self.call("Input.insertText", text=text)
        else:
            self.press("Backspace")

    def choose(self, selector: str, text: str):
        """Pick an entry of a select by its text, which is all that a visitor sees."""
        self.ask(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)}); s.selectedIndex = "
            f"[...s.options].findIndex((o) => o.text === {json.dumps(text)}); "
            "s.dispatchEvent(new Event('change')); })()"
        )

    def screenshot(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        found = self.call(
            "Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)
        )
        data = base64.b64decode(found["data"])
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def _clip(self, whole):
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {
            "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        }
