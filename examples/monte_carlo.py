# SPDX-License-Identifier: MIT
"""Monte Carlo with a confidence interval: the volume of the five-dimensional unit ball.

Each item seeds its own generator with its number: the estimate is the same however the items
are shared out, on one core or on a hundred. Random state inherited by a fork is never used.
"""

import math
import random
from statistics import NormalDist

import snakefish

DIMENSIONS = 5
BATCHES = 40
POINTS = 2500  # of each batch


def hits(batch):
    draw = random.Random(batch).random
    return sum(sum(draw() ** 2 for _ in range(DIMENSIONS)) <= 1 for _ in range(POINTS))


def main():
    inside = sum(snakefish.map(hits, range(BATCHES)))
    trials = BATCHES * POINTS
    share = inside / trials
    cube = 2**DIMENSIONS
    half_width = NormalDist().inv_cdf(0.975) * cube * math.sqrt(share * (1 - share) / trials)
    volume = cube * share
    exact = math.pi ** (DIMENSIONS / 2) / math.gamma(DIMENSIONS / 2 + 1)

    print(f"{trials} points, {inside} inside")
    low, high = volume - half_width, volume + half_width
    print(f"volume {volume:.4f}, 95 % confidence {low:.4f} to {high:.4f}")
    print(f"exact  {exact:.4f}, inside the interval: {low < exact < high}")


main()
