# SPDX-License-Identifier: MIT
"""binary-trees: build perfect binary trees of many depths and count their nodes.

All depths together have about the same number of nodes, in many small trees or few large ones,
so each depth is dealt with in PARTS of equal work. One tree lives from before the others to
after them; building and counting it stays with the parent.
"""

from __future__ import annotations

import multiprocessing
import platform

import snakefish

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 10,
    "quick": 17 if PYPY else 14,
    "full": 18 if PYPY else 15,
}
LEAST = 4
PARTS = 2**LEAST

fork = multiprocessing.get_context("fork")


class Node:
    """A tree: two smaller ones, or none."""

    __slots__ = ("left", "right")

    def __init__(self, left: Node | None, right: Node | None) -> None:
        self.left = left
        self.right = right


def make(size: int, seed: int) -> int:
    """Return the depth of the long-lived tree; nothing here is random."""
    return size


def sequential(depth: int) -> str:
    stretch = nodes(depth + 1)
    long_lived = tree(depth)
    found = [[nodes(small) for _ in range(trees)] for small, trees in depths(depth)]
    return report(depth, stretch, [sum(counts) for counts in found], count(long_lived))


def ours(depth: int) -> str:
    long_lived = tree(depth)
    stretch, *found = snakefish.starmap(parts, [(depth + 1, 1), *batches(depth)])
    return report(depth, stretch, sums(found), count(long_lived))


def with_pool(depth: int) -> str:
    long_lived = tree(depth)
    with fork.Pool() as pool:
        stretch, *found = pool.starmap(parts, [(depth + 1, 1), *batches(depth)], chunksize=1)
    return report(depth, stretch, sums(found), count(long_lived))


def tree(depth: int) -> Node:
    return Node(tree(depth - 1), tree(depth - 1)) if depth else Node(None, None)


def count(node: Node) -> int:
    if node.left is None or node.right is None:
        return 1
    return 1 + count(node.left) + count(node.right)


def nodes(depth: int) -> int:
    """Build a tree of *depth*, count its nodes and forget it."""
    return count(tree(depth))


def parts(depth: int, trees: int) -> int:
    return sum(nodes(depth) for _ in range(trees))


def depths(most: int) -> list[tuple[int, int]]:
    """Return every other depth, and how many trees of it are built."""
    return [(depth, 2 ** (most - depth + LEAST)) for depth in range(LEAST, most + 1, 2)]


def batches(most: int) -> list[tuple[int, int]]:
    return [(depth, trees // PARTS) for depth, trees in depths(most) for _ in range(PARTS)]


def sums(found: list[int]) -> list[int]:
    """Return the sum of every PARTS of what was *found*."""
    return [sum(found[first : first + PARTS]) for first in range(0, len(found), PARTS)]


def report(depth: int, stretch: int, found: list[int], long_lived: int) -> str:
    lines = [f"stretch tree of depth {depth + 1}\t check: {stretch}"]
    for (small, trees), check in zip(depths(depth), found):
        lines.append(f"{trees}\t trees of depth {small}\t check: {check}")
    return "\n".join([*lines, f"long lived tree of depth {depth}\t check: {long_lived}", ""])
