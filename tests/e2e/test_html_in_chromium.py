"""The report in a real browser: what is drawn, at which widths, and what it may not do."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.reports.html_report import write_html
from pytest_llmdeploy.verdicts import Verdict
from tests.plugin.conftest import Project, scripted_url
from tests.unit.canary_records import Maker, none_failed
from tests.unit.reports.samples import event, full_run, load_event, load_summary, run, write_summary

__all__ = ["scripted_url"]  # a fixture

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTHS = (400, 1600)
SCHEMES = ("light", "dark")
OUTSIDE = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('details:not([open])') && !e.closest('thead'))
  .map(e => [e.tagName, e.getBoundingClientRect(), (e.textContent || '').slice(0, 40)])
  .filter(([, b]) => b.width && (b.right > wide + 1 || b.left < -1))
  .map(([tag, b, text]) => `${tag} ${b.left} to ${b.right}: ${text}`);
"""
BOXES = """
return [...document.querySelectorAll('svg[role=img]')].map(e => {
  const b = e.getBoundingClientRect();
  return [e.getAttribute('aria-label'), b.width, b.height];
});
"""
OVERLAPS = """
const found = [];
for (const figure of document.querySelectorAll('figure')) {
  const texts = [...figure.querySelectorAll('text')].map(
    e => [e.textContent, e.getBoundingClientRect()]);
  texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 5) found.push(`${one} | ${other}`);
  }));
}
return found;
"""
CONTRASTS = """
const parts = c => c.match(/[0-9.]+/g).map(Number);
const light = c => {
  const [r, g, b] = parts(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = e => {
  for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (parts(colour)[3] !== 0) return colour;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('h1,h2,h3,p,dt,dd,td,th,a,.badge,summary,figcaption,text')]
  .map(e => {
    const style = getComputedStyle(e);
    const [a, b] = [light(e.tagName === 'text' ? style.fill : style.color), light(behind(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent];
  }).filter(([ratio]) => ratio < 4.5);
"""


def missing() -> str | None:
    """Return what these tests lack on this machine."""
    lacks = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if importlib.util.find_spec("selenium") is None:
        lacks.append("the Python package selenium")
    return f"no browser tests without {', '.join(lacks)}" if lacks else None


@dataclass(frozen=True)
class Browser:
    """Chromium with what it asked for."""

    driver: Any
    url: str
    folder: Path
    asked: list[str]

    def open(self, name: str, width: int = 1280, scheme: str = "light", media: str = "") -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._set("setEmulatedMedia", media=media, features=[feature])
        self._set(
            "setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.asked.clear()
        self.driver.get(f"{self.url}/{name}/report.html")

    def _set(self, command: str, **parameters: Any) -> None:
        self.driver.execute_cdp_cmd(f"Emulation.{command}", parameters)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for, its own included."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("pages")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    webdriver = importlib.import_module("selenium.webdriver")
    service = importlib.import_module("selenium.webdriver.chrome.service")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        driver = webdriver.Chrome(
            options=options, service=service.Service(shutil.which("chromedriver"))
        )
        try:
            yield Browser(driver, f"http://127.0.0.1:{server.server_port}", folder, asked)
        finally:
            driver.quit()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def full(browser: Browser) -> Browser:
    (browser.folder / "full").mkdir()
    for name, failures in (("bad", (20).__mul__), ("good", none_failed)):
        made = Maker(browser.folder / "full" / "records" / "canary" / name)
        made.watch()
        made.watch(failures)
        made.write()
    write_html(full_run(browser.folder / "full"))
    return browser


USUAL = "rate: 40, warmup: 1, max_tokens: [2, 6], self_check: 0"
OBJECTIVES = "objectives: [ttft_p90 <= 2, error_rate <= 5%]"
REAL = f"""
environments: {{local: {{url: "{{url}}"}}}}
load:
  steady: {{{USUAL}, duration: 4, max_dispatch_lag: 2, {OBJECTIVES},
           compare: {{url: "{{url}}", metrics: [e2e_p50], max_increase: 9, blocks: 10}}}}
  late: {{{USUAL}, duration: 4, max_dispatch_lag: 1.0e-9, {OBJECTIVES}}}
  most: {{{USUAL}, duration: 6, max_dispatch_lag: 2, find: max_rate, max_rate: 80, confirm: true,
         objectives: [e2e_p50 <= 2]}}
"""


@pytest.fixture(scope="module")
def real(browser: Browser, scripted_url: str, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """The page of runs that were made: two that were judged, and one that is an ERROR."""
    project = Project(tmp_path_factory.mktemp("project"), scripted_url)
    project.write("pytest.ini", "[pytest]\n")
    project.config(REAL)
    done = project.run("-m", "load", "--llmdeploy-output", str(browser.folder / "real"))
    assert done.code == 10, done.out
    return browser


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_a_real_run_shows_all_that_was_measured(real: Browser, width: int) -> None:
    real.open("real", width)
    text = real.run("return document.body.innerText")
    assert "No measurements to show" not in text
    assert "What follows was measured all the same" in text
    assert real.run("return document.documentElement.scrollWidth") <= width
    assert real.run(OUTSIDE) == []
    assert real.run(OVERLAPS) == []
    assert real.run("return document.querySelectorAll('section[id] figure').length") == 10
    for part in ("Capacity", "Comparison", "Whole runs just below", "Gap by token"):
        assert part in text, part


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_is_readable(full: Browser, width: int, scheme: str) -> None:
    full.open("full", width, scheme)
    assert full.run("return document.documentElement.clientWidth") == width
    assert full.run("return document.documentElement.scrollWidth") <= width
    assert full.run(OUTSIDE) == []
    boxes = full.run(BOXES)
    assert len(boxes) >= 20
    assert [box for box in boxes if box[1] < 50 or box[2] < 10] == []
    assert full.run(OVERLAPS) == []
    assert full.run(CONTRASTS) == []
    text = full.run("return document.body.innerText")
    words = (
        "✗ FAIL",
        "✓ PASS",
        "! ERROR",
        "? INCONCLUSIVE",
        "capacity 36/s",
        "Failures",
        "Evidence",
    )
    assert [word for word in words if word not in text] == []
    background = full.run("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 26)"}[scheme]


def test_nothing_is_asked_for_and_the_console_is_quiet(full: Browser) -> None:
    full.open("full")
    own = f"{full.url}/full/report.html"
    assert full.run("return document.readyState") == "complete"
    assert [url for url in full.requests() if not url.startswith("data:")] == [own]
    assert full.asked == ["/full/report.html"]
    assert full.driver.get_log("browser") == []


def test_paper_is_white_even_at_night(full: Browser) -> None:
    full.open("full", scheme="dark", media="print")
    style = "getComputedStyle(document.body)"
    assert full.run(f"return {style}.backgroundColor") == "rgb(255, 255, 255)"
    assert full.run(f"return {style}.color") == "rgb(26, 29, 35)"
    assert full.run(CONTRASTS) == []


def test_curves_are_inside_of_their_axes(full: Browser) -> None:
    full.open("full", 400)
    outside = """
    return [...document.querySelectorAll('figure')].flatMap(f => {
      const frame = f.querySelector('svg[role=img]').getBoundingClientRect();
      return [...f.querySelectorAll('path,circle,rect')]
        .filter(e => !e.closest('.keys'))
        .map(e => [e.outerHTML.slice(0, 60), e.getBoundingClientRect()])
        .filter(([, b]) => b.left < frame.left - 8 || b.right > frame.right + 8
          || b.top < frame.top || b.bottom > frame.bottom)
        .map(([html]) => html);
    });
    """
    assert full.run(outside) == []


def test_markup_in_reasons_and_summaries_does_not_run(browser: Browser) -> None:
    attack = "</style></title><script>window.ran=1</script><img src=x onerror='window.ran=2'>"
    output = browser.folder / "hostile"
    output.mkdir()
    summary = load_summary() | {"notes": [attack], "versions": {attack: 3}}
    summary["events"] = [{"at": 20.0, "label": attack}]
    write_summary(output, summary)
    events = [
        event("health", attack, Verdict.FAIL, attack),
        load_event("steady", attack, Verdict.ERROR, attack),
    ]
    write_html(run(output, events, exit_code=1, run_id=attack))
    browser.open("hostile", 400)
    assert browser.run("return window.ran === undefined")
    assert browser.run("return document.querySelectorAll('script,img').length") == 0
    assert browser.run("return document.querySelector('.banner .first').innerText") == (
        f"health::{attack}: {attack}"
    )
    assert browser.run("return document.documentElement.scrollWidth") <= 400
    assert browser.asked == ["/hostile/report.html"]


def test_even_markup_that_got_in_could_not_act(full: Browser) -> None:
    full.open("full")
    blocked = full.driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1], blocked = new Set();
        document.addEventListener('securitypolicyviolation', event => {
          blocked.add(event.effectiveDirective);
          if (blocked.size === 3) done([...blocked].sort());
        });
        document.body.insertAdjacentHTML('beforeend',
          "<img src='/x.png'><p onclick='window.ran=1'></p>");
        document.body.lastChild.click();
        const script = document.createElement('script');
        script.src = '/x.js';
        document.body.append(script);
        """
    )
    assert blocked == ["img-src", "script-src-attr", "script-src-elem"]
    assert full.run("return window.ran === undefined")
    assert full.asked == ["/full/report.html"]
