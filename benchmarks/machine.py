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

WRITTEN = (":!*.json", ":!*.md", ":!*.svg")
"""What a run itself writes."""


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
    """Return the commit, and whether the files differ from it; "unknown" if there is none."""
    try:
        head = _git("rev-parse", "--short", "HEAD").stdout.strip()
        differs = _git("diff", "--quiet", "HEAD", "--", ".", *WRITTEN).returncode
    except FileNotFoundError:
        return "unknown"
    return f"{head} and changes" if head and differs else head or "unknown"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parent.parent
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()
