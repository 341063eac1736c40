# SPDX-License-Identifier: MIT
"""B4: a stream of bytes from one process to another, in bytes a second, by the size of a message.

The limit is one copy from warm memory into warm memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import links
from benchmarks.figure import BYTES_PER_SECOND, LIMIT, Aim, Figure, Runner, Scale
from benchmarks.stream import Stream

if TYPE_CHECKING:
    from benchmarks.links import Opener

KIB, MIB = 1 << 10, 1 << 20
AIMS = {
    KIB: [],
    64 * KIB: [Aim("Pipe", at_least=5, on="CPython"), Aim("Pipe", at_least=20, on="PyPy")],
    MIB: [Aim("Pipe", at_least=3, on="CPython"), Aim("Pipe", at_least=20, on="PyPy")],
}


def figures(scale: Scale) -> list[Figure]:
    return [stream(size, scale) for size in AIMS]


def stream(size: int, scale: Scale) -> Figure:
    count = scale.choose(tiny=3, quick=20)
    data = b"\x5a" * size
    runners: dict[str, Runner] = {
        who: bytes_a_second(opener, data, count) for who, opener in links.OF_BYTES.items()
    }
    return Figure(
        id="B4",
        case=f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB",
        what="stream of bytes",
        unit=BYTES_PER_SECOND,
        runners={**runners, LIMIT: lambda: copying(data, 10 * count)},
        aims=AIMS[size],
        size=size,
    )


def bytes_a_second(opener: Opener, data: bytes, count: int) -> Runner:
    stream = Stream(opener, data, count)
    return lambda: len(data) * stream()


def copying(data: bytes, count: int) -> float:
    from cffi import FFI

    ffi = FFI()
    target = bytearray(data)
    whence, whither = ffi.from_buffer(data), ffi.from_buffer(target)
    began = time.perf_counter()
    for _ in range(count):
        ffi.memmove(whither, whence, len(data))
    elapsed = time.perf_counter() - began
    assert target == data
    return count * len(data) / elapsed
