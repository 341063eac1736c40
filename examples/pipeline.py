# SPDX-License-Identifier: MIT
"""A pipeline of three processes over files: read, take apart, count.

Each stage is a Generator that loops over the one before it; it was made and started before the
next stage forked, so that the next stage can take its values. prefetch lets a stage run ahead:
while one file is being counted, the next is taken apart and the one after that is read.
"""

import re
from collections import Counter
from pathlib import Path

from snakefish import Generator


def read(paths):
    for path in paths:
        yield path.name, path.read_text(encoding="utf-8")


def words(texts):
    for name, text in texts:
        yield name, re.findall(r"[a-z]+", text.lower())


def count(lists):
    for name, found in lists:
        yield name, len(found), Counter(found).most_common(1)[0]


files = sorted((Path(__file__).parent / "data").glob("*.py"))
stages = []
source = files
for stage in (read, words, count):
    source = Generator(stage, args=(source,), prefetch=2)
    source.start()
    stages.append(source)

for name, total, (word, times) in stages[-1]:
    print(f"{name}: {total} words, the commonest is {word!r}, {times} times")

for stage in stages:
    stage.join()
    print(stage.get_exit_status(), end=" ")
    stage.dispose()
print("are the stages' statuses")
