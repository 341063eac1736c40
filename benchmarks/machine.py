# SPDX-License-Identifier: MIT
"""Where and of what something was measured, in words that name no machine and no path."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path


def interpreter() -> tuple[str, str]:
    """Return "CPython" or "PyPy", and its version; PyPy's own and that of its language."""
    language = platform.python_version()
    match = re.search(r"PyPy ([\d.]+)", sys.version)
    return platform.python_implementation(), f"{match[1]} ({language})" if match else language


def machine() -> str:
    """Return the processor, how many of them, the memory, the kernel and the C library."""
    kernel = ".".join(platform.release().split(".")[:2])
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} CPUs ({_processor()}), {memory:.0f} GiB,"
        f" {platform.system()} {kernel}, {' '.join(platform.libc_ver())}"
    )


def _processor() -> str:
    match = re.search(r"model name\s*: (.*)", _text("/proc/cpuinfo"))
    return f"{platform.machine()}, {match[1].strip()}" if match else platform.machine()


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def commit() -> str:
    """Return the commit of the files as they are, "unknown" outside of a repository."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        where = Path(__file__).parent
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=where)
    except FileNotFoundError:
        return "unknown"
    return ended.stdout.strip() or "unknown"


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()
