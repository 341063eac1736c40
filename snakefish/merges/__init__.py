# SPDX-License-Identifier: MIT
"""How the changes that tasks made to a shared value come together.

A merge is what `share=` says of a variable: `share={"counts": merges.count}`. There are two
families.

**Merges that replay.** Whatever a task did is done again to the value that the parent
has by then. So the program ends up as the plain loop would have left it, for any
number of cores and any chunks, as long as tasks do with the variable only what
its merge is for, and do not let what they read of it steer what they write.

| merge | what a task may do | any order | replay |
|---|---|---|---|
| `add` | `+=`, `-=` on int, Fraction, Decimal, timedelta, arrays of integers | yes | yes |
| `total` | `+=`, `-=` on float, arrays of floats; it sees only its own part | yes | to rounding |
| `minimum`, `maximum` | `x = max(x, v)` | yes | yes |
| `append` | add at the end of list, deque, bytearray, array, str, bytes, tuple | no | yes |
| `union` | add to a set | yes | yes |
| `count` | change the numbers in a Counter or dict, by adding | yes | yes |
| `insert` | new keys in a dict | unless first, last | where keys determine values |
| `mapping(inner)` | for each key what inner is for | as inner | as inner |
| `fresh(merge)` | the same, beginning with an empty value of its own | as merge | as merge |
| `fresh(identity, combine)` | anything, beginning at identity | if declared | if associative |
| `disjoint` | write to elements of a buffer that nobody else writes to | yes | yes |

**The others** do not replay. They make a conflict of what would have gone wrong, leave it
to you, or drop something.

| merge | what a task may do | any order | instead of replay |
|---|---|---|---|
| `once` | assign or change, if nobody else does, or to an equal value | yes | a conflict |
| `frozen` | nothing | yes | a conflict |
| `ensure` | rely on it that nobody else changes it | no | a conflict |
| `private` | anything: what it left is dropped | yes | nothing |
| `last` | assign; the later task wins | no | writes are lost |
| `merge3(f)` | anything | if declared | as f |

Traps. What a task adds travels as a copy: an object of the parent inside of it is another
object then, and a list that is shared both by itself and within a dict is added to twice.
A task that reads a shared value and decides by it what to write is outside of what
replay promises: `ensure` makes that a conflict. Floats that are added to a large base,
one by one, lose what the loop loses too; `total` does not. Immutable values are assigned in
the variable that was named, so a copy under another name, as `from module import total`
makes it, keeps what it had. `append` and `insert` do not see what happens within an element
or a value, and `insert`, the default for a dict, takes equal counts of two tasks for one: say
`count`. A key of another type, such as a tuple among strings, makes
PyPy rebuild a large dict. NumPy's global random state is the same in all tasks.

>>> from snakefish import merges
>>> merges.add, merges.insert(clash="first"), merges.mapping(merges.append)
(merges.add, merges.insert(clash='first'), merges.mapping(merges.append))
>>> merges.mapping(merges.append) == merges.mapping(merges.append)
True
"""

from snakefish.merges._buffers import Disjoint
from snakefish.merges._defaults import default_for, proposal_for
from snakefish.merges._dicts import Count, Insert
from snakefish.merges._dicts import Mapping as mapping  # noqa: N813 - called as a function
from snakefish.merges._fresh import fresh
from snakefish.merges._merge import Clash, Merge, Undo
from snakefish.merges._numbers import Add, Maximum, Minimum, Total
from snakefish.merges._sequences import Append
from snakefish.merges._sets import Union
from snakefish.merges._whole import Ensure, Frozen, Last, Once, Private
from snakefish.merges._whole import Merge3 as merge3  # noqa: N813

__all__ = [
    "Clash",
    "Merge",
    "Undo",
    "add",
    "append",
    "count",
    "default_for",
    "disjoint",
    "ensure",
    "fresh",
    "frozen",
    "insert",
    "last",
    "mapping",
    "maximum",
    "merge3",
    "minimum",
    "once",
    "private",
    "proposal_for",
    "total",
    "union",
]

add = Add()
total = Total()
minimum = Minimum()
maximum = Maximum()
append = Append()
union = Union()
count = Count()
insert = Insert()
disjoint = Disjoint()
once = Once()
frozen = Frozen()
ensure = Ensure()
private = Private()
last = Last()
