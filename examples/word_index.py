# SPDX-License-Identifier: MIT
"""The main job: an inverted index of Python source files, built in parallel, checked by a loop.

Look at extract and merge. A job's share of the index travels as three flat values a table, because
merging a hundred thousand small lists one at a time would cost what the second core brings.
Without an argument it indexes the files in data/; given a directory, everything below it, timed.
"""

import os
import platform
import re
import sys
import time
import tokenize
from array import array
from collections import Counter
from itertools import chain
from keyword import iskeyword
from pathlib import Path

import snakefish

WORD = re.compile(r"[^\W\d]\w*")
JOBS = 2 * (os.cpu_count() or 1)  # the parent merges the first while the last still count

files = []
index = {"identifiers": {}, "words": {}}  # table: entry: [file, times, file, times, ...]


def index_file(number):
    """Enter the identifiers of one file, and the words of its comments and strings."""
    identifiers, prose = [], []
    try:
        with tokenize.open(files[number]) as source:
            for token in tokenize.generate_tokens(source.readline):
                if token.type == tokenize.NAME and not iskeyword(token.string):
                    identifiers.append(token.string)
                elif token.type in (tokenize.COMMENT, tokenize.STRING):
                    prose.append(token.string)
    except (SyntaxError, ValueError, tokenize.TokenError):
        pass  # some tests are about broken files: what stands before the break counts
    found = {"identifiers": identifiers, "words": WORD.findall(" ".join(prose).lower())}
    for table, entries in found.items():
        for entry, times in Counter(entries).items():
            index[table].setdefault(entry, []).extend((number, times))
    return len(identifiers) + len(found["words"])


def extract(child_globals):
    return {
        table: (
            "\n".join(postings),
            array("I", map(len, postings.values())).tobytes(),
            array("I", chain.from_iterable(postings.values())).tobytes(),
        )
        for table, postings in child_globals["index"].items()
    }


def merge(parent_globals, extracted):
    for table, (entries, lengths, numbers) in extracted.items():
        postings = parent_globals["index"][table]
        flat, end = array("I", numbers).tolist(), 0
        for entry, length in zip(entries.split("\n"), array("I", lengths)):
            start, end = end, end + length
            postings.setdefault(entry, []).extend(flat[start:end])


def measured(run):
    """Return what *run* counted, the index it built, and the seconds it took."""
    index.update(identifiers={}, words={})
    began = time.perf_counter()
    counted = sum(run())
    return counted, dict(index), time.perf_counter() - began


def commonest(table, count=4):
    """Say which entries of the last index are the commonest, and in how many files they are."""
    totals = {entry: sum(postings[1::2]) for entry, postings in index[table].items()}
    first = sorted(totals, key=lambda entry: (-totals[entry], entry))[:count]
    named = (f"{entry} {totals[entry]}x in {len(index[table][entry]) // 2}" for entry in first)
    return f"{len(totals)} {table}; the commonest: {', '.join(named)} files"


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

    counted, built, seconds = measured(
        lambda: snakefish.map(index_file, numbers, extract, merge, chunksize=chunk, progress=timed)
    )
    counted_again, built_again, plain_seconds = measured(lambda: map(index_file, numbers))
    equal = (counted, built) == (counted_again, built_again)

    print(f"{len(files)} files, {size} bytes, {counted} identifiers and words")
    print(commonest("identifiers"))
    print(commonest("words"))
    print("equal to the plain loop:", equal)
    if timed:
        print(f"plain loop {plain_seconds:.2f} s, in parallel {seconds:.2f} s", end=" ")
        print(f"on {os.cpu_count()} cores: speed-up {plain_seconds / seconds:.2f}")
    sys.exit(not equal)


main()
