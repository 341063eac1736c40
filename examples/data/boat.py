# SPDX-License-Identifier: MIT
"""A boat: what it carries, and how deep it lies in the water."""


class Boat:
    def __init__(self, depth, room):
        self.depth = depth
        self.room = room
        self.cargo = []

    def load(self, thing):
        """Take *thing* on board, while there is room."""
        if len(self.cargo) == self.room:
            raise OverflowError("the boat is full")
        self.cargo.append(thing)
