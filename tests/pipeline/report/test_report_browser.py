"""The report as a visitor uses it: a real browser, its mouse and keys, and what it shows."""

import io

import browser
import numpy as np
import pytest
from browser import Browser
from PIL import Image
from report_runs import HOSTILE, N_STEPS

from pipeline import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        browser.EXECUTABLE is None, reason="no chromium on this machine to show the page in"
    ),
]
KEYS = "[...document.querySelectorAll('.card h3')].map((h) => h.textContent)"
FIRST = "document.querySelector('.card')"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def visit(chromium, make_run, tmp_path):
    """A browser that shows the report of a run."""
    page = report.write(make_run(latents="all").folder, tmp_path / "report.html").path
    chromium.requests.clear()
    chromium.resize(1280, 900)
    return chromium.open(page)


def pixels(shown: Browser, selector: str) -> np.ndarray:
    """The middle of one element as it looks, of a size of its own."""
    x, y = shown.ask(
        f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: "
        "'center', behavior: 'instant'}); const b = e.getBoundingClientRect(); "
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    whole = np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("RGB")) / 255
    return whole[round(y) - 50 : round(y) + 50, round(x) - 50 : round(x) + 50]


def test_a_visit(visit, tmp_path):
    # The slider moves the image, by keys, and its numbers.
    assert visit.ask(KEYS) == ["fourth", HOSTILE, "second", "a/first"]  # worst MSE first
    assert visit.ask(f"{FIRST}.querySelector('output').textContent") == f"step {N_STEPS}"
    last = pixels(visit, ".card .now .frame")
    visit.focus(".card .slider")
    visit.press("ArrowLeft", N_STEPS - 1)
    assert visit.ask(f"{FIRST}.querySelector('output').textContent") == "step 1"
    assert visit.ask(f"{FIRST}.querySelector('.values dd').textContent") == "0.5300"
    first = pixels(visit, ".card .now .frame")
    assert np.abs(first - last).mean() > 0.005
    visit.press("ArrowLeft")
    assert visit.ask(f"{FIRST}.querySelector('output').textContent") == "the average"
    assert visit.ask("document.querySelectorAll('.card[data-step=\"3\"]').length") == 3

    # All at once.
    visit.focus("#everyone")
    visit.press("Home")
    visit.press("ArrowRight", 2)
    assert visit.ask("document.querySelectorAll('.card[data-step=\"2\"]').length") == 4

    # The difference is dark where crop and reconstruction agree.
    beside = pixels(visit, ".card .against .frame")
    visit.click("[value=difference]")
    differs = pixels(visit, ".card .against .frame")
    assert np.ptp(differs, axis=2).max() < 0.05  # grey
    now = pixels(visit, ".card .now .frame")
    expected = (np.abs(beside - now).mean(axis=2) * 4).clip(0, 1)
    assert np.corrcoef(expected.ravel(), differs.mean(axis=2).ravel())[0, 1] > 0.8

    # Sorting reorders, and is said.
    visit.choose("#sort", "PSNR, best first")
    assert visit.ask(KEYS) == ["fourth", HOSTILE, "second", "a/first"]
    visit.choose("#sort", "PSNR, worst first")
    assert visit.ask(KEYS) == ["a/first", "second", HOSTILE, "fourth"]
    assert visit.ask("document.querySelector('#sorted').textContent") == (
        "Sorted by PSNR, worst first"
    )

    # Details open by key.
    visit.focus(".card summary")
    visit.press("Enter")
    assert visit.ask(f"{FIRST}.querySelector('details').open")

    # A picture is enlarged by a key, and arrows go on to the pictures beside it and to other rows.
    large = "document.querySelector('.enlarged')"
    visit.focus(".card .now img")
    visit.press("Enter")
    said = visit.ask(f"{large}.querySelector('.caption').textContent")
    assert said.startswith("a/firstReconstruction after step 2")
    visit.press("ArrowLeft")
    assert visit.ask(f"{large}.querySelector('img').alt") == "Reconstruction after step 1"
    visit.press("ArrowLeft")
    assert visit.ask(f"{large}.querySelector('img').alt") == "Aligned crop"
    visit.press("ArrowDown")
    assert visit.ask(f"{large}.querySelector('.mono').textContent") == "second"
    visit.press("Escape")
    assert not visit.ask(f"{large}.open")

    # Rows are found by their key and status; a link shows its row, also one that was not among those found.
    rows = "[...document.querySelectorAll('.row:not([hidden])')].map((r) => r.id)"
    visit.write("#filter", "SECOND")
    assert visit.ask(rows) == ["key=second"]
    visit.write("#filter", "no_face")
    assert visit.ask(rows) == ["key=nobody"]
    assert visit.ask("document.querySelector('#found').textContent") == "0 of 4, 1 of 2 failures"
    visit.ask("location.hash = 'a/first'")
    visit.wait_for("document.querySelector('.linked')?.id === 'key=a/first'")
    assert visit.ask("document.querySelector('.linked details').open")

    assert visit.console == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [
        (tmp_path / "report.html").as_uri()
    ]


def test_every_control_is_reached_by_the_tab_key(visit):
    visit.ask("document.body.focus()")
    seen = []
    for _ in range(40):
        visit.press("Tab")
        seen.append(visit.ask("document.activeElement.id || document.activeElement.classList[0]"))
    assert {"sort", "everyone", "slider", "skip"} <= set(seen)


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_and_in_the_dark(visit, dark):
    visit.resize(360, 780, dark=dark, phone=True)
    assert visit.ask("document.documentElement.scrollWidth") == 360  # nothing to push sideways
    shown = Image.open(io.BytesIO(visit.screenshot())).convert("L")
    paper, ink = np.percentile(np.asarray(shown), [50, 1 if not dark else 99.5])
    assert (paper < 60 and ink > 180) if dark else (paper > 200 and ink < 90)
