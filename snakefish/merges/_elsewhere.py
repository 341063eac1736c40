# SPDX-License-Identifier: MIT
"""Classes of modules that a program may do without.

No value is of such a class before its module was loaded. So who asks what a value is does
not load it: on PyPy that is 9 of the 30 milliseconds until something is shared.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

_NUMBERS = {"decimal": ("Decimal",), "datetime": ("timedelta",)}

_UNCHANGING = {
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "datetime": ("date", "datetime", "time", "timedelta"),
}


def numbers() -> tuple[type, ...]:
    """Return the classes of what can be added and subtracted exactly, and is no `Number`."""
    return _loaded(_NUMBERS)


def unchanging() -> tuple[type, ...]:
    """Return the classes whose objects stay what they are."""
    return _loaded(_UNCHANGING)


def _loaded(classes: Mapping[str, tuple[str, ...]]) -> tuple[type, ...]:
    modules = [(sys.modules.get(module), names) for module, names in classes.items()]
    found = (getattr(module, name, None) for module, names in modules for name in names)
    return tuple(one for one in found if one is not None)
