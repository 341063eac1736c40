# SPDX-License-Identifier: MIT
"""A memo that grows in parallel: what a recursive function found out in a child helps the parent.

Look at share=. merges.insert takes the new keys of each child; what two of them both found out is
the same, and merges. Only how much was computed is not what the loop would count: a child
cannot know what the others are finding out.
"""

import snakefish
from snakefish import merges

memo = {1: 0}
computed = 0


def collatz_steps(n):
    global computed
    if n not in memo:
        computed += 1
        memo[n] = 1 + collatz_steps(n // 2 if n % 2 == 0 else 3 * n + 1)
    return memo[n]


share = {"memo": merges.insert, "computed": merges.add}
steps = snakefish.map(collatz_steps, range(1, 5001), share=share, chunksize=1250)
print("the longest way to 1 below 5001:", max(steps), "steps, from", steps.index(max(steps)) + 1)
print("in the memo:", len(memo), "- computed by the children:", computed)

computed = 0
again = [collatz_steps(n) for n in range(1, 5001)]
print("the plain loop agrees:", again == steps, "- computed for it:", computed)

more = snakefish.map(collatz_steps, range(5001, 10001), share="memo computed", chunksize=1250)
print("below 10001:", max(more), "steps - in the memo:", len(memo), "- computed:", computed)
