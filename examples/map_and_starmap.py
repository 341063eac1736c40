# SPDX-License-Identifier: MIT
"""map and starmap, each item timed by the time-stamp counter, with three ways to merge the times.

Results come in the order of the arguments, and so do merges, whoever finishes first. Ticks of one
process compare with ticks of another: every item began after the call and ended before its return.
"""

import snakefish
from snakefish import merges

timings = []


def power_sum(exponent, limit=2000):
    began = snakefish.get_timestamp_serialized()
    total = sum(n**exponent for n in range(limit))
    timings.append((exponent, began, snakefish.get_timestamp_serialized()))
    return total


def extract(child_globals):
    return {"timings": child_globals["timings"]}


def merge(parent_globals, extracted):
    parent_globals["timings"] += extracted["timings"]


exponents = range(8)
expected = [power_sum(exponent) for exponent in exponents]
timings.clear()

print("map:", snakefish.map(power_sum, exponents, share={"timings": merges.private}) == expected)
print("each child kept its timings to itself:", timings)

called = snakefish.get_timestamp_serialized()
results = snakefish.map(power_sum, exponents, extract, merge, concurrency=2, chunksize=1)
returned = snakefish.get_timestamp_serialized()
print("map with merging:", results == expected)
print("merged in this order:", [exponent for exponent, _, _ in timings])
print("all within the call:", all(called < began < ended < returned for _, began, ended in timings))

timings.clear()
results = snakefish.map(power_sum, exponents, share={"timings": merges.append})
print("map with share:", results == expected)
print("appended in this order:", [exponent for exponent, _, _ in timings])

pairs = [(1, 5), (2, 4), (3, 3)]
print("starmap:", snakefish.starmap(power_sum, pairs, share={"timings": merges.private}))
timings.clear()
print("starmap with merging:", snakefish.starmap(power_sum, pairs, extract, merge))
print("merged:", [exponent for exponent, _, _ in timings])
