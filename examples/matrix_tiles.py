# SPDX-License-Identifier: MIT
"""A matrix product in tiles: each child writes to its part of one buffer, and all parts come back.

Look at the second half. An array takes merges.disjoint: nobody may write where somebody else does.
Tiles that overlap are a MergeConflict, which names each element and both writers.
"""

import random
from array import array

import snakefish

SIZE, TILE = 12, 4

dice = random.Random(12)
left, right = ([dice.randrange(10) for _ in range(SIZE * SIZE)] for _ in range(2))
product = array("l", [0] * SIZE**2)


def multiply(top, start):
    for y in range(top, top + TILE):
        for x in range(start, start + TILE):
            row, column = left[y * SIZE : (y + 1) * SIZE], right[x::SIZE]
            product[y * SIZE + x] = sum(a * b for a, b in zip(row, column))


tiles = [(y, x) for y in range(0, SIZE, TILE) for x in range(0, SIZE, TILE)]
snakefish.starmap(multiply, tiles, share="product", chunksize=1)
in_parallel = product[:]
for tile in tiles:
    multiply(*tile)
print("equal to the plain loop:", product == in_parallel)
print("first row:", *product[:SIZE])

product[:] = array("l", [0] * SIZE**2)
try:
    snakefish.starmap(multiply, [(0, 0), (TILE - 1, 0)], share="product", chunksize=1)
except snakefish.MergeConflict as error:
    print("elements with two writers:", [conflict.key for conflict in error.conflicts])
    print("the writers of the first:", " and ".join(error.conflicts[0].writers))
print("of the first tile is left:", sum(map(bool, product)), "elements")
