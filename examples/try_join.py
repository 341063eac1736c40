# SPDX-License-Identifier: MIT
"""try_join: the parent goes on with its own work and looks now and then whether the child is done.

The child waits for a word from the parent, so that the first look certainly comes too early.
"""

from snakefish import Channel, Thread


def answer():
    question = word.receive_pyobj(True)
    return f"{question} 42"


word = Channel()
with Thread(answer) as thread:
    print("alive before start:", thread.is_alive())
    thread.start()
    print("alive:", thread.is_alive(), "- joined:", thread.try_join())

    word.send_pyobj("six times seven is")
    looks = 0
    while not thread.try_join():
        looks += 1  # or anything useful

    print("alive:", thread.is_alive(), "- joined:", thread.try_join())
    print("result:", thread.get_result())
word.dispose()
