# SPDX-License-Identifier: MIT
"""What a generator raises comes out of next(), after the values that came before it.

After that the generator is exhausted, as a plain one would be. A generator that is joined early
is closed where it stands: its finally block runs in the child, and its globals are merged.
"""

from snakefish import Generator

cleaned = {}


def parse(name, lines):
    try:
        for line in lines:
            yield int(line)
    finally:
        cleaned[name] = "cleaned up"


def extract(child_globals):
    return {"cleaned": child_globals["cleaned"]}


def merge(parent_globals, extracted):
    parent_globals["cleaned"].update(extracted["cleaned"])


with Generator(parse, extract, merge, args=("failing", ["1", "2", "three", "4"])) as failing:
    failing.start()
    try:
        while True:
            print("value:", failing.next(True))
    except ValueError as error:
        print("raised:", error)
        print("the child's traceback names parse:", "in parse" in str(error.__cause__))
    try:
        failing.next(True)
    except StopIteration:
        print("then: StopIteration")
    failing.join()
    print("status:", failing.get_exit_status())

with Generator(parse, extract, merge, args=("early", ["10", "20", "30"])) as early:
    early.start()
    print("value:", early.next(True))
    early.join()
    print("status:", early.get_exit_status())
print(cleaned)
