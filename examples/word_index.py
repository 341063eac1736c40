# SPDX-License-Identifier: MIT
"""The main job: an inverted index of Python source files, built in parallel, checked by a loop.

Look at share=. The tables are defaultdicts of lists, so what a job appended to an entry is appended
to it in the parent, in the order of the files; index_file is the same for the loop and for map.
Without an argument it indexes the files in data/; given a directory, everything below it, timed.
"""

import os
import platform
import re
import sys
import time
import tokenize
from collections import Counter, defaultdict
from itertools import chain
from keyword import iskeyword
from pathlib import Path

import snakefish

WORD = re.compile(r"[^\W\d]\w*")
JOBS = 2 * (os.cpu_count() or 1)  # two for each core, so that nobody waits long for the last

files = []
identifiers, words = defaultdict(list), defaultdict(list)  # entry: [file, times, file, times, ...]


def index_file(number):
    """Enter the identifiers of one file, and the words of its comments and strings."""
    names, prose = [], []
    try:
        with tokenize.open(files[number]) as source:
            for token in tokenize.generate_tokens(source.readline):
                if token.type == tokenize.NAME and not iskeyword(token.string):
                    names.append(token.string)
                elif token.type in (tokenize.COMMENT, tokenize.STRING):
                    prose.append(token.string)
    except (SyntaxError, ValueError, tokenize.TokenError):
        pass  # some tests are about broken files: what stands before the break counts
    found = WORD.findall(" ".join(prose).lower())
    for table, entries in ((identifiers, names), (words, found)):
        for entry, times in Counter(entries).items():
            table[entry].extend((number, times))
    return len(names) + len(found)


def measured(run):
    """Return what *run* counted, the index it built, and the seconds it took."""
    identifiers.clear()
    words.clear()
    began = time.perf_counter()
    counted = sum(run())
    return counted, dict(identifiers), dict(words), time.perf_counter() - began


def commonest(table, count=4):
    """Say which entries of a table are the commonest, and in how many files they are."""
    totals = {entry: sum(postings[1::2]) for entry, postings in table.items()}
    first = sorted(totals, key=lambda entry: (-totals[entry], entry))[:count]
    named = (f"{entry} {totals[entry]}x in {len(table[entry]) // 2}" for entry in first)
    return f"the commonest: {', '.join(named)} files"


def main():
    timed = len(sys.argv) > 1
    root = Path(sys.argv[1] if timed else Path(__file__).parent / "data")
    foreign = {"site-packages", "dist-packages"}
    by_size = [path for path in root.rglob("*.py") if not foreign & set(path.parts)]
    by_size.sort(key=lambda path: (path.stat().st_size, path))
    files[:] = chain.from_iterable(by_size[first::JOBS] for first in range(JOBS))  # equal jobs
    numbers, chunk = range(len(files)), -(-len(files) // JOBS)
    size = sum(len(path.read_bytes()) for path in files)  # so that neither way pays for the disk
    if timed:
        print(f"{platform.python_implementation()} {platform.python_version()}", flush=True)
        sum(map(index_file, numbers[::10]))  # nor for what a JIT learns

    shared = {"share": "identifiers words", "chunksize": chunk, "progress": timed}
    *built, seconds = measured(lambda: snakefish.map(index_file, numbers, **shared))
    *built_again, plain_seconds = measured(lambda: map(index_file, numbers))
    equal = built == built_again

    print(f"{len(files)} files, {size} bytes, {built[0]} identifiers and words")
    print(f"{len(identifiers)} identifiers; {commonest(identifiers)}")
    print(f"{len(words)} words; {commonest(words)}")
    print("equal to the plain loop:", equal)
    if timed:
        print(f"plain loop {plain_seconds:.2f} s, in parallel {seconds:.2f} s", end=" ")
        print(f"on {os.cpu_count()} cores: speed-up {plain_seconds / seconds:.2f}")
    sys.exit(not equal)


main()
