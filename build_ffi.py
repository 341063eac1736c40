# SPDX-License-Identifier: MIT
"""Describe the C library to cffi.

`c/snakefish.h` is the only place that declares it: the declarations given to
cffi are the header's own, less what cffi's parser does not read. In this mode
the C compiler then checks each of them against the header itself.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cffi

# The fork hook is the one function that C calls in Python.
PRELUDE = """
typedef int pid_t;
extern "Python" int sf_fork_hook(void);
"""

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
CONSTANT = re.compile(r"^#define (SF_\w+) +\S.*$", re.MULTILINE)
DIRECTIVE = re.compile(r"^ *#.*$", re.MULTILINE)


def declarations(header: str) -> str:
    """Return what the C source *header* declares, as cffi's cdef wants it."""
    text = COMMENT.sub("", header.replace("\\\n", " "))
    text = text.replace('extern "C" {', "").replace("\n}\n", "\n")
    constants = [name for name in CONSTANT.findall(text) if name != "SF_API"]
    functions = DIRECTIVE.sub("", text).replace("SF_API ", "")
    return "\n".join(f"#define {name} ..." for name in constants) + functions


if not sys.platform.startswith("linux"):
    raise SystemExit(f"snakefish needs Linux (pidfd, futex, memfd); this is {sys.platform}")

ffibuilder = cffi.FFI()
ffibuilder.cdef(PRELUDE + declarations(Path("c/snakefish.h").read_text(encoding="utf-8")))
ffibuilder.set_source(
    "snakefish._sf",
    '#include "snakefish.h"',
    sources=sorted(str(path) for path in Path("c").glob("*.c")),
    depends=sorted(str(path) for path in Path("c").glob("*.h")),
    include_dirs=["c"],
    extra_compile_args=[
        "-std=gnu11",
        "-O2",
        "-fvisibility=hidden",
        "-Werror=implicit-function-declaration",
        "-Werror=incompatible-pointer-types",
    ],
    libraries=["pthread"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
