"""The pages of an experiment, from the disk and with the network off; `make browser` makes and names them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from held import copy_project, wait_until
from test_lab import HOOK, running_lab

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[1]
REPRODUCED = ROOT / "reproduced"
RESOURCES = {"script": "src", "img": "src", "audio": "src", "source": "src", "iframe": "src", "link": "href"}


@pytest.fixture(scope="module")
def site() -> Path:
    if "HPSED_SITE" not in os.environ:
        pytest.skip("HPSED_SITE names no site; `make browser` makes one")
    return Path(os.environ["HPSED_SITE"]).resolve()


class Page(HTMLParser):
    """Addresses and names of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.names: set[str | None] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {given.get("id"), given.get("name")}
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if given.get(RESOURCES.get(tag, "")):
            self.resources.append(str(given[RESOURCES[tag]]))


def test_every_address_leads_somewhere_and_nothing_is_fetched(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 15
    for path, page in pages.items():
        for address in [*page.links, *page.resources]:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https", "mailto"):
                assert address in page.links, f"{path}: {address} is fetched"
            elif parts.scheme != "data":
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                assert target.is_file(), f"{path}: {address}"
                assert not parts.fragment or parts.fragment in pages[target].names, f"{path}: {address}"


def test_it_is_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*")) < 25e6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("no chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_whole_offline(site: Path, browser: Any, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 850}, offline=True)
    page, wrong = context.new_page(), []
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    page.on("requestfailed", lambda asked: wrong.append(asked.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for path in site.rglob("*.html"):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.locator("merror, .math").count() + page.locator("p", has_text="|:--").count() == 0, path
        assert not page.evaluate("[...document.images].filter(image => !image.complete || !image.naturalWidth).length")
    assert wrong == []
    page.goto((site / "notebooks/02_pooling_gradients.html").as_uri())
    assert page.locator("msub > mover > mi", has_text="x").count() > 5  # x̂_j
    assert not re.search(r"Sum\(|\*\*", "".join(page.locator("td").all_text_contents()))


def test_no_table_is_cut_in_jupyterlab_at_1400_pixels(site: Path, browser: Any, tmp_path: Path) -> None:
    """Notebooks as nbconvert shows them, with JupyterLab's style, in the width that is left to them there."""
    found = [
        path for name in (site.name, "derivation", "paper") for path in REPRODUCED.glob(f"{name}/notebooks/*.ipynb")
    ]
    found += sorted(REPRODUCED.glob(f"{site.name}/notebooks/03_train_variant/*.ipynb"))[:1]
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", tmp_path, *found]
    subprocess.run(command, check=True, capture_output=True)
    page = browser.new_context(viewport={"width": 1100, "height": 900}, offline=True).new_page()
    for path in found:
        page.goto((tmp_path / f"{path.stem}.html").as_uri())
        outputs = page.locator(".jp-OutputArea-output:has(table)")
        assert outputs.evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth).length") == 0, path
    assert len(found) > 4


def test_jupyterlab_opens_on_the_first_notebook(site: Path, browser: Any) -> None:
    command = (ROOT / "Makefile").read_text().partition("jupyter lab ")[2].partition("\n\n")[0].replace("\\\n", " ")
    with running_lab(*command.split()) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}?token=t")
        page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=120_000)
        assert page.url.endswith("/notebooks/00_start_here.ipynb")
        page.click("text=Run >> nth=0")
        page.click("text=Run All Cells >> nth=0")
        page.locator(".jp-OutputArea-output a", has_text="05_paper_audit").first.click(timeout=120_000)
        page.wait_for_selector(".jp-Notebook h1:has-text('05 The paper')")


def test_notebooks_run_to_their_end_in_jupyterlab(browser: Any, tmp_path: Path) -> None:
    copy_project(tmp_path, "hpsed_lib", "notebooks", "params")

    def has_ended() -> bool:
        page.keyboard.press("Control+s")
        page.wait_for_timeout(2000)
        cells = json.loads(saved.read_text())["cells"] if saved.is_file() else [{"cell_type": "code", "outputs": []}]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
        return [cell.get("execution_count") for cell in code] == list(range(1, len(code) + 1))

    with running_lab(HOOK, folder=tmp_path) as address:
        for name in ("01_data_preparation", "03_train_variant"):
            for path in (tmp_path / "notebooks").glob(f"{name}.*"):
                path.write_text(path.read_text().replace("quick", "smoke"))  # as one edits the parameters' cell
            saved = tmp_path / "reproduced" / "lab" / f"{name}.ipynb"
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"{address}lab/tree/notebooks/{name}.ipynb?token=t")
            page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=120_000)
            page.click("text=Run >> nth=0")
            page.click("text=Run All Cells >> nth=0")
            wait_until(has_ended, seconds=400)
            assert page.locator("merror, mjx-merror").count() == 0
    assert (tmp_path / "reproduced" / "smoke" / "metrics" / "linear-hierarchical-seed0.json").is_file()


def test_tables_sort_and_clips_sound(site: Path, browser: Any) -> None:
    page = browser.new_context(offline=True).new_page()
    page.goto((site / "index.html").as_uri())
    table = page.locator("table.sortable").filter(has=page.locator("th", has_text="reason")).last
    column = table.locator("th").all_text_contents().index("ER")
    for up in (True, False):
        table.locator("th").nth(column).click()
        values = [float(row.locator("td").nth(column).text_content()) for row in table.locator("tbody tr").all()]
        assert values == sorted(values, reverse=not up)
    assert len(set(values)) > 1
    page.goto((site / "clips.html").as_uri())
    lengths = page.evaluate(
        "Promise.all([...document.querySelectorAll('audio')].map(audio => new Promise(done => {"
        "audio.onloadedmetadata = () => done(audio.duration); audio.onerror = () => done(0); audio.preload = 'auto'})))"
    )
    assert 0 < len(lengths) <= 10
    assert all(length == pytest.approx(10, abs=0.1) for length in lengths)
