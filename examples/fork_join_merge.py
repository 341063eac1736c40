# SPDX-License-Identifier: MIT
"""Fork, join, merge: two children write to a global of theirs, and join() brings it home.

Look at extract and merge. The first runs in the child and says which globals are kept; the
second runs in the parent and says how they go together. Neither needs a lock.
"""

from snakefish import Thread

primes = {}


def find_primes(low, high):
    primes[low, high] = [n for n in range(low, high) if all(n % d for d in range(2, n))]
    return len(primes[low, high])


def extract(child_globals):
    return {"primes": child_globals["primes"]}


def merge(parent_globals, extracted):
    parent_globals["primes"].update(extracted["primes"])


threads = [
    Thread(find_primes, extract, merge, args=(2, 30)),
    Thread(
        lambda: find_primes(100, 130), extract, merge
    ),  # a closure is as good: nothing is pickled
]
for thread in threads:
    thread.start()
print("before join:", primes)

for thread in threads:
    thread.join()
    print("found:", thread.get_result(), "status:", thread.get_exit_status())
    thread.dispose()
for (low, high), found in primes.items():
    print(f"primes from {low} to {high}:", *found)
