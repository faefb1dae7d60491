"""The report in headless Chromium, where it is installed: no console message, sorting, tips, zoom, phone width."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.report.page import PageTable, Section, write_page
from tests.support.synthetic_study import make_study

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def observe(page: Path, script: str, *options: str) -> tuple[dict[str, object], list[str]]:
    """Run `script` at the end of the page; what it puts into `seen`, and all console messages."""
    probe = page.with_name(f"probe-{page.name}")
    ending = f"<script>const seen = {{}};\n{script}\ndocument.body.dataset.seen = JSON.stringify(seen);</script></body>"
    probe.write_text(page.read_text().replace("</body>", ending))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
        f"--user-data-dir={page.parent / 'profile'}", *options, probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert told, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(html.unescape(told[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    study = make_study(root, models=["mixer-b/32", "vit-b/32", "bit-r152x2"], seeds=(0, 1))
    assert main([str(study), "--out", str(root / "report")]) == 0
    return root / "report" / "index.html"


def test_tips_zoom_and_themes_work_without_a_console_message(page: Path) -> None:
    script = """
    const mark = document.querySelector("svg [data-tip]");
    mark.dispatchEvent(new PointerEvent("pointerenter"));
    seen.tip = [tip.hidden, tip.textContent === mark.dataset.tip];
    mark.dispatchEvent(new PointerEvent("pointerleave"));
    seen.gone = tip.hidden;
    const sheet = document.querySelector(".sheet");
    document.querySelector("[data-zoom=in]").click();
    seen.zoom = sheet.querySelector("svg").clientWidth / sheet.clientWidth;
    seen.paper = getComputedStyle(document.body).backgroundColor;
    seen.loaded = performance.getEntriesByType("resource").length;
    """
    light, messages = observe(page, script)
    dark, more = observe(page, script, "--blink-settings=preferredColorScheme=0")
    assert messages == more == []
    assert light["tip"] == [False, True]
    assert light["gone"] is True
    assert light["zoom"] == pytest.approx(1.5, abs=0.01)
    assert light["loaded"] == 0
    assert (light["paper"], dark["paper"]) == ("rgb(255, 255, 255)", "rgb(22, 25, 29)")


def test_a_console_message_would_be_seen(page: Path) -> None:
    assert len(observe(page, 'console.error("seen");')[1]) == 1


def test_nothing_but_tables_is_wider_than_a_phone(page: Path) -> None:
    script = """
    document.documentElement.style.width = "390px";
    document.querySelectorAll("details").forEach(entry => { entry.open = true; });
    seen.wide = [...document.querySelectorAll("body *")]
      .filter(box => box.id !== "tip" && !box.closest(".scroll, svg") && box.getBoundingClientRect().right > 390.5)
      .map(box => box.outerHTML.slice(0, 80));
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
    seen.covered = [...document.querySelectorAll("figure")].filter(figure =>
      meet(figure.querySelector(".zoom").getBoundingClientRect(), figure.querySelector("svg").getBoundingClientRect())
    ).length;
    seen.captions = [...document.querySelectorAll(".scroll caption, .scroll .caption, .caption")]
      .filter(box => box.closest(".scroll") || box.scrollWidth > box.clientWidth).length;
    seen.tables = document.querySelectorAll("table").length;
    """
    seen, _ = observe(page, script, "--window-size=1000,800")
    assert seen["wide"] == []
    assert seen["covered"] == seen["captions"] == 0 and seen["tables"] > 3


def test_columns_sort_by_amount_and_back(tmp_path: Path) -> None:
    amounts = [
        "300",
        "9.06M (30 %)",
        "1.2B",
        "3·10¹⁸ FLOPs",
        "10⁻⁵",
        "> 0.99",
        "-1.5 to +2",
        "41.2 ± 0.6",
        "2.81k images/s",
    ]
    ordered = [
        "-1.5 to +2",
        "10⁻⁵",
        "> 0.99",
        "41.2 ± 0.6",
        "300",
        "2.81k images/s",
        "9.06M (30 %)",
        "1.2B",
        "3·10¹⁸ FLOPs",
    ]
    table = pd.DataFrame({"model": [f"vit-{i}" for i in range(9)], "amount": amounts})
    index = write_page("t", "s", [Section("tables", tables=(PageTable("c", table),))], tmp_path)[0]
    script = """
    const column = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[1].textContent);
    const heading = document.querySelectorAll("th")[1];
    heading.click(); seen.up = column();
    heading.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })); seen.down = column();
    seen.mark = heading.getAttribute("aria-sort");
    """
    seen, messages = observe(index, script)
    assert messages == []
    assert seen == {"up": ordered, "down": ordered[::-1], "mark": "descending"}
