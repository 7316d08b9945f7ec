"""Takes the picture of a report: python docs/pictures/photograph.py report.html docs/pictures/report.png.

The upper part of the page, as Debian's Chromium draws it in a window of 1,100 pixels, with 256 colours
that lie far apart, so that no point changes its own.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1100, 1900
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main(report: Path, picture: Path) -> None:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1)
        page.goto(report.resolve().as_uri())
        page.wait_for_selector("body[data-drawn]", timeout=120_000)
        page.screenshot(path=str(picture))
        browser.close()
    Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
