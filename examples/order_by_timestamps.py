# SPDX-License-Identifier: MIT
"""Two processes keep a log each; sorted by ticks, the two logs tell one story.

The ball goes back and forth, and a timestamp taken before a send is always smaller than one
taken after that message was received, whichever cores the two ran on.
"""

from snakefish import Channel, Thread, get_timestamp

log = []


def note(event):
    log.append((get_timestamp(), event))


def play(name, inbox, outbox, hits):
    for _ in range(hits):
        ball = inbox.receive_pyobj(True)
        note(f"{name} returns ball {ball}")
        outbox.send_pyobj(ball + 1)


def extract(child_globals):
    return {"log": child_globals["log"]}


def merge(parent_globals, extracted):
    parent_globals["log"] += extracted["log"]


east, west = Channel(4096), Channel(4096)
players = [
    Thread(play, extract, merge, args=("east", east, west, 3)),
    Thread(play, extract, merge, args=("west", west, east, 3)),
]
for player in players:
    player.start()
note("the parent serves")
east.send_pyobj(1)
for player in players:
    player.join()
    player.dispose()
note("the parent counts the points")

print("merged one after the other:")
print(*(f"  {event}" for _, event in log), sep="\n")
print("in the order of their ticks:")
print(*(f"  {event}" for _, event in sorted(log)), sep="\n")
east.dispose()
west.dispose()
