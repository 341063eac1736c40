# SPDX-License-Identifier: MIT
"""An inverted index: for each word the lines where it stands, file after file in their order.

Look at the name in share=. A defaultdict of lists takes merges.mapping(merges.append): what a child
appended to any of the lists is appended in the parent, in the order of the files, and only that
travels. The index may have entries before the call; they stay, and grow.
"""

import re
from collections import defaultdict
from pathlib import Path

import snakefish

places = defaultdict(list)
places["tide"].append("an entry from before")


def index(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for word in sorted(set(re.findall(r"[a-z]+", line.lower()))):
            places[word].append(f"{path.stem}:{number}")


snakefish.map(index, sorted((Path(__file__).parent / "data").glob("*.py")), share="places")

for word in ("tide", "harbour", "rope", "return"):
    print(f"{word}: {', '.join(places.get(word, ['nowhere']))}")
print(len(places), "words, the keys in the loop's order:", list(places)[:6])
