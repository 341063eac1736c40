# SPDX-License-Identifier: MIT
"""Which merge a value gets of which only the name was given."""

from __future__ import annotations

from collections import Counter, defaultdict

from snakefish.merges._buffers import Disjoint
from snakefish.merges._dicts import Count, Insert, Mapping
from snakefish.merges._merge import Merge
from snakefish.merges._numbers import Add, Total
from snakefish.merges._sequences import Append
from snakefish.merges._sets import Union
from snakefish.merges._whole import Once

_BY_EXACT_TYPE: dict[type, type[Merge]] = {int: Add, float: Total}
_BY_TYPE: dict[type, type[Merge]] = {list: Append, set: Union, Counter: Count}


def default_for(value: object) -> Merge:
    """Return the merge that suits *value* best: never `last`, which loses writes.

    int: add. float: total. list: append. set: union. Counter: count. dict: insert. A
    defaultdict: by what its factory makes, which is called once for it: count for
    numbers, else `mapping` of the default for that. bytearray, array, memoryview, numpy
    arrays: disjoint. All else, bool among it: once.

    >>> from collections import defaultdict
    >>> default_for(3), default_for(True), default_for(defaultdict(list))
    (merges.add, merges.once, merges.mapping(merges.append))

    Raises:
        Whatever the factory of a defaultdict raises.
    """
    if type(value) in _BY_EXACT_TYPE:
        return _BY_EXACT_TYPE[type(value)]()
    for kind, merge in _BY_TYPE.items():
        if isinstance(value, kind):
            return merge()
    if isinstance(value, defaultdict) and value.default_factory is not None:
        of_values = default_for(value.default_factory())
        return Count() if isinstance(of_values, (Add, Total)) else Mapping(of_values)
    if isinstance(value, dict):
        return Insert()
    return Once() if Disjoint().refusal(value) else Disjoint()


def proposal_for(value: object) -> Merge:
    """Return the merge to propose to a user who said nothing of *value*.

    It is the default; but of numbers in a dict nobody knows whether they are a memo or counts, and
    two tasks that counted the same would pass for two that found out the same. With
    `clash="error"` that is a conflict, and the user says which it is.

    >>> proposal_for({"a": 1}), proposal_for({"a": "b"})
    (merges.insert(clash='error'), merges.insert)

    Raises:
        The same as `default_for`.
    """
    merge = default_for(value)
    if isinstance(merge, Insert) and isinstance(value, dict):
        of_values = default_for(next(reversed(value.values()), None))
        return Insert("error") if isinstance(of_values, (Add, Total)) else merge
    return merge
