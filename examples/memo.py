# SPDX-License-Identifier: MIT
"""A memo that grows in parallel: what a recursive function found out in a child helps the parent.

extract hands back only what the child added: dicts keep their order, so that is everything
behind the entries it inherited. What two children both found out is the same, and merges.
"""

from itertools import islice

import snakefish

memo = {1: 0}
computed = 0


def collatz_steps(n):
    global computed
    if n not in memo:
        computed += 1
        memo[n] = 1 + collatz_steps(n // 2 if n % 2 == 0 else 3 * n + 1)
    return memo[n]


def extract(child_globals):
    return {"memo": dict(islice(child_globals["memo"].items(), inherited, None))}


def merge(parent_globals, extracted):
    parent_globals["memo"].update(extracted["memo"])


inherited = len(memo)
steps = snakefish.map(collatz_steps, range(1, 5001), extract, merge, concurrency=2, chunksize=1250)
print("the longest way to 1 below 5001:", max(steps), "steps, from", steps.index(max(steps)) + 1)
print("computed in the parent:", computed, "- in the memo:", len(memo))

again = [collatz_steps(n) for n in range(1, 5001)]
print("the plain loop agrees:", again == steps, "- computed for it:", computed)

inherited = len(memo)
more = snakefish.map(collatz_steps, range(5001, 10001), extract, merge, concurrency=2)
print("below 10001:", max(more), "steps - in the memo:", len(memo))
