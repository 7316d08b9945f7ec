"""Takes a picture of a page: python docs/pictures/photograph.py PAGE PICTURE.png [wide|phone].

PAGE is a report's file, or the address of a page of `aquasurf watch`. `wide` is the first screen of a window of 1,280
pixels; `phone` is that of a phone, in the light and in the dark theme. Debian's Chromium draws it, with 256 colours
that lie far apart, so that no point changes its own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

WIDE, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 1500}
SETTLING = 4000  # milliseconds in which the page of a running search gets its report
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main(address: str, picture: Path, kind: str) -> None:
    url = address if address.startswith("http") else Path(address).resolve().as_uri()
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        shot = Path(folder) / "shot.png"
        views: list[tuple[dict[str, int], Any]] = (
            [(WIDE, "light")] if kind == "wide" else [(PHONE, "light"), (PHONE, "dark")]
        )
        parts = [photograph(browser, url, size, scheme, shot) for size, scheme in views]
        browser.close()
    whole = Image.new("RGB", (sum(part.width for part in parts) + 20 * (len(parts) - 1), parts[0].height), "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + 20
    whole.quantize(256, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


def photograph(browser: Any, url: str, size: dict[str, int], scheme: Any, shot: Path) -> Image.Image:
    page = browser.new_page(viewport=size, device_scale_factor=1, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector("body[data-drawn]", timeout=120_000)
    page.wait_for_timeout(SETTLING)
    page.screenshot(path=str(shot))
    page.close()
    return Image.open(shot).convert("RGB")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "wide")
