# SPDX-License-Identifier: MIT
"""A generator in a process of its own: next that waits, next that does not, and a merge at the end.

next(False) raises IndexError while the value is not ready. The generator waits for a word before
its second value, so the first look certainly comes too early.
"""

from snakefish import Channel, Generator

log = []


def countdown():
    for number in (3, 2, 1):
        if number == 2:
            go.receive_pyobj(True)
        log.append(f"computed {number}")
        yield number
    return "lift-off"


def extract(child_globals):
    return {"log": child_globals["log"]}


def merge(parent_globals, extracted):
    parent_globals["log"].extend(extracted["log"])


go = Channel()
generator = Generator(countdown, extract, merge)
generator.start()
print("blocking:", generator.next(True))
try:
    generator.next(False)
except IndexError:
    print("not blocking: not ready yet")
go.send_pyobj("go")
print("blocking:", generator.next(True))
print("as an iterator:", list(generator))
try:
    generator.next(True)
except StopIteration:
    print("asked again: StopIteration")

print("log before join:", log)
generator.join()
print("log after join:", log)
print("status:", generator.get_exit_status())
generator.dispose()
go.dispose()
