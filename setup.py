# SPDX-License-Identifier: MIT
"""Build the extension; everything else is said in pyproject.toml."""

from __future__ import annotations

import platform
import sysconfig

from setuptools import setup

# One wheel serves every CPython from 3.9 on. PyPy and the free-threaded builds
# have no stable ABI: they get a wheel for one version each.
STABLE_ABI = platform.python_implementation() == "CPython" and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)

setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp39"}} if STABLE_ABI else {},
)
