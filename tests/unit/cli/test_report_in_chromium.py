"""The report in a real browser: it renders in light, dark and print, complains of nothing and fetches nothing."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest
from slm_operator.report.page import page
from unit.cli.test_report import measured, scene_of

from tests.testbed.debian import install, may_install

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
WIDTH, HEIGHT = 900, 600
MOST_PAGES = 4


@pytest.fixture(scope="module")
def chromium() -> str:
    """A Chromium, from Debian's package where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and may_install():
        install("chromium", "fonts-dejavu")
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium on this machine, and no right to install it")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(scene_of(measured("opt-1.3b"))), encoding="utf-8")
    return path


def browse(chromium: str, report: Path, profile: Path, *arguments: str) -> str:
    """Open the report in a profile of its own. Returns what the browser logged."""
    done = subprocess.run(
        [chromium, *QUIET, f"--user-data-dir={profile}", *arguments, f"file://{report}"],
        capture_output=True, text=True, timeout=400, check=True,
    )  # fmt: skip
    return done.stderr


def pixels(png: bytes) -> list[bytes]:
    """Rows of an 8-bit PNG without interlacing, unfiltered. Enough for what Chromium writes."""
    at, data, wide, channels = 8, b"", 0, 0
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        chunk = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            wide, channels = struct.unpack(">I", chunk[:4])[0], {2: 3, 6: 4}[chunk[9]]
        data += chunk if kind == b"IDAT" else b""
        at += 12 + size
    raw, step = zlib.decompress(data), wide * channels
    rows, above = [], bytes(step)
    for start in range(0, len(raw), step + 1):
        above = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + step]), above, channels)
        rows.append(above)
    return rows


def _unfiltered(kind: int, row: bytearray, above: bytes, channels: int) -> bytes:
    for i in range(len(row)):
        left, up = row[i - channels] if i >= channels else 0, above[i]
        corner = above[i - channels] if i >= channels else 0
        nearest = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
        row[i] = (row[i] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
    return bytes(row)


def requested(chromium: str, report: Path, folder: Path) -> set[str]:
    """What the page asked the network for. NB: pages from files have the opaque origin `null`; the browser has none."""
    net = folder / "net.json"
    browse(chromium, report, folder / "p", f"--log-net-log={net}", f"--screenshot={folder / 's.png'}")
    asked = [event.get("params", {}) for event in json.loads(net.read_text())["events"]]
    return {params["url"] for params in asked if params.get("initiator") == "null"}


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize(("scheme", "background"), [("light", range(200, 256)), ("dark", range(60))])
def test_renders_in_both_schemes_without_a_word_in_the_console(
    chromium: str, report: Path, tmp_path: Path, scheme: str, background: range
) -> None:
    shot = tmp_path / f"{scheme}.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    log = browse(chromium, report, tmp_path / "p", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", *dark)
    assert complaints(log) == []
    rows = pixels(shot.read_bytes())
    corner = rows[5][:3]
    assert all(value in background for value in corner), f"background of {scheme} is {tuple(corner)}"
    assert len({bytes(row) for row in rows}) > HEIGHT / 4, "most lines are the same: nothing was drawn"


def test_fetches_nothing(chromium: str, report: Path, tmp_path: Path) -> None:
    assert requested(chromium, report, tmp_path) == set()


def test_a_fetch_would_be_seen(chromium: str, report: Path, tmp_path: Path) -> None:
    fetching = tmp_path / "fetching.html"
    html = re.sub(r"<meta http-equiv[^>]*>", "", report.read_text())
    fetching.write_text(html.replace("</main>", '<img src="http://127.0.0.1:9/pixel.png"></main>'))
    assert requested(chromium, fetching, tmp_path) == {"http://127.0.0.1:9/pixel.png"}


def test_prints_on_a_few_pages(chromium: str, report: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "report.pdf"
    log = browse(chromium, report, tmp_path / "p", "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    assert complaints(log) == []
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= MOST_PAGES


def test_a_hostile_name_runs_nothing(chromium: str, report: Path, tmp_path: Path) -> None:
    page_with_script = tmp_path / "hostile.html"
    page_with_script.write_text(report.read_text().replace("</main>", "<script>console.log('ran')</script></main>"))
    log = browse(chromium, page_with_script, tmp_path / "p", "--screenshot=" + str(tmp_path / "s.png"))
    assert not [line for line in complaints(log) if '"ran"' in line]
    assert [line for line in complaints(log) if "Content Security Policy" in line]
