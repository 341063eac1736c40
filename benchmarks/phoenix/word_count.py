# SPDX-License-Identifier: MIT
"""Word count: how often each word occurs in a text. The counts come back by `count`.

The text is generated page by page. As in natural text the n-th commonest word is about n times as
rare as the commonest, so that a few words are in every page and most are in few.
"""

from __future__ import annotations

import multiprocessing
import platform
import random
import re
from collections import Counter
from itertools import accumulate

import snakefish

from .pieces import pieces

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 60,
    "quick": 8000 if PYPY else 12_000,
    "full": 25_000 if PYPY else 36_000,
}
VOCABULARY, WORDS_A_PAGE, DIFFERENT_PAGES = 20_000, 500, 1000
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")

pages: list[str] = []
counts: Counter[str] = Counter()

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> list[str]:
    """Return a text of *size* pages; after a while they come again."""
    dice = random.Random(seed)
    letters = "etaoinshrdlu"
    words = ["".join(dice.choices(letters, k=dice.randint(2, 9))) for _ in range(VOCABULARY)]
    bounds = list(accumulate(1 / (rank + 2) for rank in range(VOCABULARY)))
    made = []
    for _ in range(min(size, DIFFERENT_PAGES)):
        drawn = dice.choices(words, cum_weights=bounds, k=WORDS_A_PAGE)
        made.append(" ".join(drawn).capitalize())
    return [made[number % len(made)] for number in range(size)]


def begin(text: list[str]) -> None:
    global pages, counts
    pages, counts = text, Counter()


def count(page: str) -> None:
    counts.update(WORD.findall(page.lower()))


def sequential(text: list[str]) -> Counter[str]:
    begin(text)
    for page in pages:
        count(page)
    return counts


def ours(text: list[str], concurrency: int = 0, chunksize: int = 0) -> Counter[str]:
    begin(text)
    snakefish.map(count, pages, concurrency, chunksize, share="counts")
    return counts


def with_pool(text: list[str], processes: int | None = None) -> Counter[str]:
    begin(text)
    with fork.Pool(processes) as pool:
        for part in pool.imap_unordered(counted, pieces(len(pages), processes)):
            counts.update(part)
    return counts


def counted(piece: range) -> Counter[str]:
    begin(pages)
    for number in piece:
        count(pages[number])
    return counts
