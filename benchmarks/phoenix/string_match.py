# SPDX-License-Identifier: MIT
"""String match: which words of a list are the secrets whose hashes are known, by `append`.

Each word is salted and hashed some hundred times over, as passwords are, and compared with the
given hashes. What was found is in the order of the list.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import platform
import random
from typing import NamedTuple

import snakefish

from .pieces import pieces

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 300,
    "quick": 43_000,
    "full": 130_000,
}
SECRETS, ITERATIONS, SALT = 4, 100, b"sea salt"


class Search(NamedTuple):
    """Words, and the hashes of some of them."""

    words: list[str]
    hashes: frozenset[bytes]


words: list[str] = []
hashes: frozenset[bytes] = frozenset()
found: list[str] = []

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> Search:
    """Return *size* words and the hashes of a few."""
    dice = random.Random(seed)
    made = [f"{dice.choice('bdfgklmnprst')}{dice.getrandbits(64):x}" for _ in range(size)]
    return Search(made, frozenset(map(hashed, dice.sample(made, SECRETS))))


def hashed(word: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", word.encode(), SALT, ITERATIONS)


def begin(search: Search) -> None:
    global words, hashes, found
    (words, hashes), found = search, []


def compare(word: str) -> None:
    if hashed(word) in hashes:
        found.append(word)


def sequential(search: Search) -> list[str]:
    begin(search)
    for word in words:
        compare(word)
    return found


def ours(search: Search, concurrency: int = 0, chunksize: int = 0) -> list[str]:
    begin(search)
    snakefish.map(compare, words, concurrency, chunksize, share="found")
    return found


def with_pool(search: Search, processes: int | None = None) -> list[str]:
    begin(search)
    with fork.Pool(processes) as pool:
        for part in pool.imap(compared, pieces(len(words), processes)):
            found.extend(part)
    return found


def compared(piece: range) -> list[str]:
    begin(Search(words, hashes))
    for number in piece:
        compare(words[number])
    return found
