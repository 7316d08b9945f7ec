"""Every block of code in README and docs is run as printed, unless a mark says otherwise: `tests/fixtures/pages.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import PAGES, Block, all_blocks, parsed
from reader import PageFailed, Reader

NOT_RUN = [block for page in PAGES for block in all_blocks(page) if "not run" in block.marks]
CODE = [block for page in PAGES for block in all_blocks(page) if block.language != "text"]
LARGEST_SHARE_NOT_RUN = 0.25

MADE = """
<!-- run first: echo before > order.txt -->

```python
# mine.py
answer = 42
```

```
test "$(cat order.txt)" = before
make x 2>/dev/null || echo shell >> order.txt
```

```python
# script.py
from pathlib import Path

if __name__ == "__main__":
    Path("script.txt").touch()
```

<!-- shorter: 1000 => 3; large => small -->

```python
import mine
from pathlib import Path

assert Path("script.txt").exists()
size = "large"
Path("order.txt").open("a").write(f"{mine.answer} {1000} {size}\\n")
```

<!-- run as: echo instead >> order.txt -->

```
echo as-printed >> order.txt
```

<!-- file: data.yaml -->

```yaml
a: 1
```

```python
Path("order.txt").open("a").write(size + Path("data.yaml").read_text())
```
"""


@pytest.mark.docs
@pytest.mark.timeout(1800)  # a busy machine must not fail a page
@pytest.mark.parametrize("page", [p for p in PAGES if any("not run" not in b.marks for b in CODE if b.page == p)])
def test_a_page_works_as_it_is_printed(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    with Reader(folder) as reader:
        for block in all_blocks(page):
            if block.language != "text" and "not run" not in block.marks:
                reader.follow(block)


@pytest.mark.docs
@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    pytest.skip(f"{block.place} is not run: {block.marks['not run']}")


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    assert len(NOT_RUN) <= LARGEST_SHARE_NOT_RUN * len(CODE), [block.place for block in NOT_RUN]
    assert [block.place for block in NOT_RUN if len(block.marks["not run"].split()) < 3] == []


def test_a_reader_does_all_that_a_page_says_in_its_order(tmp_path: Path) -> None:
    with Reader(tmp_path / "reader") as reader:
        for block in parsed(MADE, "made.md"):
            reader.follow(block)
    assert (tmp_path / "reader" / "order.txt").read_text() == ("before\nshell\n42 3 small\ninstead\nsmalla: 1\n")


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("```\ntrue\nfalse | cat\n```\n", "made.md:1: exit code 1"),
        ("Text.\n\n    ls nowhere\n", "made.md:3: exit code 2"),
        ("```python\nx = 1\n```\n\n```python\nx / 0\n```\n", "made.md:5: .*ZeroDivisionError"),
        ('```python\nimport warnings\nwarnings.warn("old")\n```\n', "made.md:1: .*UserWarning: old"),
        ("```yaml\na: 1\n```\n", "made.md:1: a block of yaml has no mark"),
        ("<!-- shorter: 7 => 1 -->\n\n```\necho 8\n```\n", "made.md:3: there is no 7 to shorten"),
    ],
)
def test_a_block_that_fails_is_reported_with_its_place(page: str, says: str, tmp_path: Path) -> None:
    with Reader(tmp_path / "reader") as reader, pytest.raises(AssertionError, match=f"(?s){says}") as told:  # noqa: PT012
        for block in parsed(page, "made.md"):
            reader.follow(block)
    assert isinstance(told.value, PageFailed) or "shorten" in says


def test_a_mark_that_stands_before_no_block_is_refused() -> None:
    with pytest.raises(AssertionError, match="stands before no block"):
        parsed("<!-- not run: needs a cluster -->\n\nText.\n", "made.md")
