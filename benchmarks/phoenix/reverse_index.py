# SPDX-License-Identifier: MIT
"""Reverse index: for every address, which pages of a web site link to it, by `mapping(append)`.

The pages are HTML and taken apart by the parser of the standard library. A few addresses are linked
to by many pages, most of them by few. The pages of an address are in order.
"""

from __future__ import annotations

import multiprocessing
import platform
import random
from collections import defaultdict
from html.parser import HTMLParser

import snakefish

from .pieces import pieces

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 30,
    "quick": 14_000 if PYPY else 4500,
    "full": 40_000 if PYPY else 13_000,
}
PARAGRAPHS, LINKS_A_PARAGRAPH = 6, 4

pages: list[str] = []
linked_from: defaultdict[str, list[int]] = defaultdict(list)

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> list[str]:
    """Return *size* pages of HTML."""
    dice = random.Random(seed)
    return [page_of(number, size, dice) for number in range(size)]


def page_of(number: int, size: int, dice: random.Random) -> str:
    paragraphs = []
    for _ in range(PARAGRAPHS):
        targets = [int(size * dice.random() ** 3) for _ in range(LINKS_A_PARAGRAPH)]
        links = [f'see <a class="in" href="/page/{n}.html">page {n}</a>' for n in targets]
        paragraphs.append(f"<p>Tides &amp; winds, <em>as usual</em>: {', '.join(links)}.<br></p>")
    body = "\n".join(paragraphs)
    return f"<!doctype html><html><title>{number}</title>\n<body>{body}</body></html>"


def begin(site: list[str]) -> None:
    global pages, linked_from
    pages, linked_from = site, defaultdict(list)


class Links(HTMLParser):
    """Enters the links of a page."""

    def __init__(self, page: int) -> None:
        super().__init__()
        self.page = page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Enter a link."""
        target = dict(attrs).get("href")
        if tag == "a" and target:
            linked_from[target].append(self.page)


def enter(page: int) -> None:
    Links(page).feed(pages[page])


def sequential(site: list[str]) -> defaultdict[str, list[int]]:
    begin(site)
    for page in range(len(pages)):
        enter(page)
    return linked_from


def ours(site: list[str], concurrency: int = 0, chunksize: int = 0) -> defaultdict[str, list[int]]:
    begin(site)
    snakefish.map(enter, range(len(pages)), concurrency, chunksize, share="linked_from")
    return linked_from


def with_pool(site: list[str], processes: int | None = None) -> defaultdict[str, list[int]]:
    begin(site)
    with fork.Pool(processes) as pool:
        for part in pool.imap(entered, pieces(len(pages), processes)):
            for target, numbers in part.items():
                linked_from[target] += numbers
    return linked_from


def entered(piece: range) -> defaultdict[str, list[int]]:
    begin(pages)
    for page in piece:
        enter(page)
    return linked_from
