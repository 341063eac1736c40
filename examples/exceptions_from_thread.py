# SPDX-License-Identifier: MIT
"""What f raises in the child is raised by get_result() in the parent: same class, same arguments.

The child itself ended well: its status is 0, its globals are merged, nothing is printed. Its
traceback is the exception's __cause__.
"""

from snakefish import Thread

seen = []


def invert(numbers):
    for number in numbers:
        seen.append(number)
        1 / number


def extract(child_globals):
    return {"seen": child_globals["seen"]}


def merge(parent_globals, extracted):
    parent_globals["seen"] += extracted["seen"]


def raised_by(call):
    try:
        call()
    except ZeroDivisionError as error:
        return error


with Thread(invert, extract, merge, args=([2, 1, 0, -1],)) as thread:
    thread.start()
    thread.join()
    print("status:", thread.get_exit_status())
    print("seen up to the failure:", seen)
    error = raised_by(thread.get_result)
    print("raised:", repr(error))
    print("the child's traceback names invert:", "in invert" in str(error.__cause__))
    print("and again:", repr(raised_by(thread.get_result)))

with Thread(lambda: ValueError("a value like any other")) as thread:
    thread.start()
    thread.join()
    print("an exception that was returned:", repr(thread.get_result()))
