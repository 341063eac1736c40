# SPDX-License-Identifier: MIT
"""Mean and variance in one pass, in parallel: a merge of your own in one function.

Look at combined: the pairwise update of Chan, Golub and LeVeque (1979). It adds a value to many,
and just so what a child saw to what others did: that is all merges.fresh asks for. The values are
close together and far from zero, where the textbook's sum of squares has no digits left.
"""

import random
import statistics
from typing import NamedTuple

import snakefish
from snakefish import merges


class Moments(NamedTuple):
    count: int = 0
    mean: float = 0.0
    m2: float = 0.0  # the sum of squared distances from the mean


def combined(ours, theirs):
    count = ours.count + theirs.count
    distance = theirs.mean - ours.mean
    mean = ours.mean + distance * theirs.count / count
    m2 = ours.m2 + theirs.m2 + distance**2 * ours.count * theirs.count / count
    return Moments(count, mean, m2)


seen = Moments()


def observe(value):
    global seen
    seen = combined(seen, Moments(1, value))


dice = random.Random(1979)
values = [1e9 + dice.gauss(0, 1) for _ in range(20_000)]
snakefish.map(observe, values, share={"seen": merges.fresh(Moments, combined)})

exact = statistics.variance(values)
textbook = (sum(x * x for x in values) - sum(values) ** 2 / len(values)) / (len(values) - 1)
print(f"{seen.count} values, mean 1e9 + {seen.mean - 1e9:.4f}")
print(f"variance {seen.m2 / (seen.count - 1):.4f}, exact {exact:.4f}")
print("the textbook's is off by more than 1:", abs(textbook - exact) > 1)
