# SPDX-License-Identifier: MIT
"""Sets that grow."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from laws import INTS, Laws, steps

from snakefish import merges
from snakefish.merges import _sets


class TestUnion(Laws):
    merge = merges.union
    agrees = True
    bases = st.sets(INTS, max_size=4)
    operations = steps("add({})", set.add, INTS) | steps("update({})", set.update, st.sets(INTS))

    def test_removed_element_is_an_error(self):
        """Removing is not what a union can replay."""
        value = {1, 2}
        token = merges.union.capture(value)
        value.discard(1)
        with pytest.raises(ValueError, match="removed 1 element"):
            merges.union.diff(token, value)

    def test_exchanged_element_is_an_error(self):
        """An element removed and another added leave the size, and are seen."""
        value = {1, 2}
        token = merges.union.capture(value)
        value ^= {1, 3}
        with pytest.raises(ValueError, match="removed 1 element"):
            merges.union.diff(token, value)

    def test_large_set_of_the_same_size_counts_as_unchanged(self, monkeypatch):
        """Above a limit only the size is compared."""
        monkeypatch.setattr(_sets, "EXACT", 1)
        assert merges.union.diff(merges.union.capture({1, 2}), {1, 3}) is None

    def test_frozenset_is_replaced(self):
        """An immutable set gives a new one."""
        base = frozenset({1})
        delta = merges.union.diff(merges.union.capture(base), base | {2})
        assert merges.union.apply(frozenset({3}), delta, []) == frozenset({2, 3})

    def test_list_is_refused(self):
        """A list is no set, before and after the task."""
        assert "list" in merges.union.refusal([])
        with pytest.raises(TypeError, match="list"):
            merges.union.diff(merges.union.capture(set()), [])
