# SPDX-License-Identifier: MIT
"""Breadth-first search, a level at a time: how many moves a knight needs to get anywhere.

Look at visit. It reads what earlier levels found and adds to the next one, a set that all children
add to: merges.union. What a child sees of it is what it added itself, so it only ever asks for
squares that no earlier level has. The decorator says it once for every call.
"""

import snakefish
from snakefish import merges

WIDTH, HEIGHT = 40, 30
JUMPS = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)]

moves = {(0, 0): 0}
following = set()


@snakefish.shares(following=merges.union)
def visit(square):
    x, y = square
    for dx, dy in JUMPS:
        there = x + dx, y + dy
        if 0 <= there[0] < WIDTH and 0 <= there[1] < HEIGHT and there not in moves:
            following.add(there)


levels = []
frontier = [(0, 0)]
while frontier:
    levels.append(len(frontier))
    snakefish.map(visit, frontier)
    moves.update(dict.fromkeys(following, len(levels)))
    frontier = sorted(following)
    following.clear()

print(f"{len(moves)} of {WIDTH * HEIGHT} squares, the last after {len(levels) - 1} moves")
print("squares by the number of moves:", *levels)
print("to the far corner:", moves[WIDTH - 1, HEIGHT - 1], "moves")
