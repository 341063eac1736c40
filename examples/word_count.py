# SPDX-License-Identifier: MIT
"""Word count: a plain program whose globals come back from the children by themselves.

Look at share=: one merge for each variable, which says what the children may do to it. No function
of this file knows that there are children. A loop over count(path) leaves the same behind.
"""

import re
from collections import Counter
from pathlib import Path

import snakefish
from snakefish import merges

lines = 0
words = Counter()
longest = (0, "")


def count(path):
    global lines, longest
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.findall(r"[a-z]+", line.lower())
        lines += 1
        words.update(found)
        longest = max([longest, *((len(word), word) for word in found)])


files = sorted((Path(__file__).parent / "data").glob("*.py"))
merged = {"lines": merges.add, "words": merges.count, "longest": merges.maximum}
snakefish.map(count, files, share=merged)

print(f"{lines} lines, {sum(words.values())} words, {len(words)} different ones")
print("the longest:", longest[1])
for word, times in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:5]:
    print(f"{times:3} {word}")

in_parallel = lines, words, longest
lines, words, longest = 0, Counter(), (0, "")
for path in files:
    count(path)
print("equal to the plain loop:", in_parallel == (lines, words, longest))
