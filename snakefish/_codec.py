# SPDX-License-Identifier: MIT
"""Objects as messages: a tag, and bytes that only the tag gives a meaning.

    tag   7 .. 4   |    3     |  2 .. 0
       for others  | in place | how the object was encoded

Plain bytes and str travel as they are. None and numbers are marshalled: they
have nothing inside that could be shared, and no way to pack them is shorter.
Everything else is pickled by protocol 5 (PEP 574), whose large buffers go out
of band: they are sent from where they lie and, in a message big enough, used
where they arrive.

    PICKLE_BUFFERS:  buffers | pickle | sizes | count, size of the pickle
    a size that is negative belongs to a read-only buffer; each buffer starts
    at a multiple of 64 from the start of the message

PyPy's pickle is an order of magnitude slower than its marshal, which however
forgets that two references led to one object. There, a value of plain builtin
containers none of which occurs twice is marshalled: it comes back the same. And a
list that PyPy keeps as machine numbers, in one piece, is copied as that piece. On
CPython a look into more than a flat tuple or list would take longer than it saves.
"""

from __future__ import annotations

import marshal
import struct
import sys
from array import array
from mmap import mmap
from pickle import PickleBuffer, dumps, loads
from typing import Any, Callable, Optional, Union

from snakefish._native import ffi

FOR_OTHERS = 0xF0
IN_PLACE = 0x08
ENCODING = 0x07

PICKLE, MARSHAL, BYTES, BYTEARRAY, STR = range(5)
PICKLE_BUFFERS = 5 | IN_PLACE
INTS, FLOATS = 6, 7

# Kinds before this one tell themselves where they end, so that they may be decoded from a buffer
# that is longer. PyPy's pickle would copy all of it.
FIRST_SIZED = PICKLE if sys.implementation.name == "pypy" else BYTES

Received = Union[bytes, memoryview, mmap]
Payload = Union[bytes, "list[Any]"]
Encoder = Callable[[Any], Optional["tuple[int, Payload]"]]

_INT_CELLS = ffi.typeof("int64_t[]")
_FLOAT_CELLS = ffi.typeof("double[]")
_TAIL = struct.Struct("<qq")
_ALIGNMENT = 64

# The last version of marshal's format that looks for no value that it met before. For a few values
# that takes longer than writing them again; of many, or if they are long, all may be one string.
_WITHOUT_MEMORY = 2
_FEW = 32
_SHORT = 4096

_SCALARS = frozenset({type(None), bool, int, float})
_marshalled: Callable[[Any, int], bytes] = marshal.dumps


def encode(obj: Any) -> tuple[int, Payload]:
    """Return *obj* as a tag and what to send: bytes, or a list of parts.

    Raises:
        Whatever pickling *obj* raises.
    """
    kind = type(obj)
    if kind is bytes:
        return BYTES, obj
    if kind in _SCALARS:
        return MARSHAL, _marshalled(obj, _WITHOUT_MEMORY)
    encoder = _ENCODERS.get(kind)
    if encoder is not None:
        encoded = encoder(obj)
        if encoded is not None:
            return encoded
    buffers: list[PickleBuffer] = []
    data = dumps(obj, 5, buffer_callback=buffers.append)
    if buffers:
        return _encode_buffers(data, buffers)
    return PICKLE, data


def decode(tag: int, data: Received) -> Any:
    """Return the object that *data*, received with *tag*, stands for.

    Raises:
        Whatever unpickling raises.
    """
    return DECODERS[tag & ENCODING](data)


# ------------------------------------------------------------------- encoding


def _encode_str(obj: str) -> tuple[int, Payload] | None:
    try:
        return STR, obj.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


def _encode_buffers(data: bytes, buffers: list[PickleBuffer]) -> tuple[int, Payload]:
    views = [buffer.raw() for buffer in buffers]
    sizes = [-view.nbytes if view.readonly else view.nbytes for view in views]
    parts: list[Any] = []
    for view in views:
        parts += [view, bytes(-view.nbytes % _ALIGNMENT)]
    tail = struct.pack(f"<{len(sizes)}q", *sizes) + _TAIL.pack(len(sizes), len(data))
    return PICKLE_BUFFERS, [*parts, data, tail]


def _encode_array(obj: array[Any]) -> tuple[int, Payload]:
    return encode(_BufferOwner(_rebuilt_array, obj.typecode, PickleBuffer(obj)))


def _encode_view(obj: memoryview) -> tuple[int, Payload] | None:
    if not obj.c_contiguous:
        return None
    return encode(_BufferOwner(_rebuilt_view, obj.format, obj.shape, PickleBuffer(obj)))


class _BufferOwner:
    """Pickled as a call that rebuilds something from its buffer."""

    def __init__(self, rebuild: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = rebuild, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._reduced


def _rebuilt_array(typecode: str, buffer: Any) -> array[Any]:
    rebuilt = array(typecode)
    rebuilt.frombytes(memoryview(buffer).cast("B"))
    return rebuilt


def _rebuilt_view(form: str, shape: tuple[int, ...], buffer: Any) -> memoryview:
    view = memoryview(buffer).cast("B")
    if len(shape) == 1:
        return view.cast(form)  # type: ignore[call-overload, no-any-return]
    return view.cast(form, shape) if view.nbytes else view  # type: ignore[call-overload]


def _encode_container(obj: Any) -> tuple[int, Payload] | None:
    count = _count_plain(obj)
    return None if count < 0 else _encode_plain(obj, count)


def _encode_plain(obj: Any, count: int) -> tuple[int, Payload] | None:
    """Marshal what was found to have *count* values inside, all of them plain."""
    try:
        if count <= _FEW:
            data = _marshalled(obj, _WITHOUT_MEMORY)
            if len(data) <= _SHORT:
                return MARSHAL, data
        return MARSHAL, _marshalled(obj, marshal.version)
    except ValueError:  # nested too deeply, or changed by another thread
        return None


_LEAVES = _SCALARS | {complex, str, bytes}
_are_short_leaves = (_LEAVES - {bytes}).issuperset  # bytes may be large, and the same ones


def _encode_few(obj: Any) -> tuple[int, Payload] | None:
    if len(obj) <= _FEW and _are_short_leaves(map(type, obj)):
        return _encode_plain(obj, len(obj))
    return None


def _count_plain(obj: Any) -> int:
    """Return how many values *obj* has inside.

    It is -1 unless all are exact builtins, and no container is there twice.
    """
    count = 0
    pending: list[Any] = [obj]
    seen: set[int] = set()
    while pending:
        container = pending.pop()
        kind = type(container)
        if kind is dict:
            pending.extend([key for key in container if type(key) not in _LEAVES])
            inside = container.values()
        elif kind is list or kind is tuple:
            inside = container
        else:
            return -1
        count += len(container)
        pending.extend([item for item in inside if type(item) not in _LEAVES])
        if pending or seen:
            if id(container) in seen:
                return -1
            seen.add(id(container))
    return count


def _encode_list(obj: list[Any]) -> tuple[int, Payload] | None:
    kind = _strategy(obj)
    if kind == "IntegerListStrategy":
        return INTS, _cells(_INT_CELLS, obj)
    if kind == "FloatListStrategy":
        return FLOATS, _cells(_FLOAT_CELLS, obj)
    return _encode_container(obj)


def _cells(kind: Any, numbers: list[Any]) -> bytes:
    cells = ffi.new(kind, numbers)
    data: bytes = ffi.buffer(cells)[:]
    ffi.release(cells)  # not before its bytes are copied
    return data


_ENCODERS: dict[type, Encoder] = {
    bytearray: lambda obj: (BYTEARRAY, [obj]),
    array: _encode_array,
    memoryview: _encode_view,
    str: _encode_str,
}

if sys.implementation.name == "pypy":
    from __pypy__ import strategy as _strategy  # type: ignore[import-not-found]

    _ENCODERS.update({list: _encode_list, tuple: _encode_container, dict: _encode_container})
else:
    _ENCODERS.update({list: _encode_few, tuple: _encode_few})

# ------------------------------------------------------------------- decoding


def _decode_buffers(data: Received) -> Any:
    # A small message came as bytes: what was writable must be so again.
    whole = memoryview(bytearray(data) if isinstance(data, bytes) else data)
    end = whole.nbytes - _TAIL.size
    count, pickle_size = _TAIL.unpack(bytes(whole[end:]))  # PyPy's unpack_from would copy all
    sizes = struct.unpack(f"<{count}q", bytes(whole[end - 8 * count : end]))
    end -= 8 * count
    pickled = bytes(whole[end - pickle_size : end])
    return loads(pickled, buffers=_buffers(whole, sizes))


def _views(whole: memoryview, sizes: tuple[int, ...]) -> list[Any]:
    """Return the buffers of a message as views of it."""
    views = []
    position = 0
    for size in sizes:
        view = whole[position : position + abs(size)]
        views.append(view.toreadonly() if size < 0 else view)
        position += abs(size) + -abs(size) % _ALIGNMENT
    return views


def _objects(whole: memoryview, sizes: tuple[int, ...]) -> list[Any]:
    """Return the buffers of a message as objects of their own.

    PyPy never frees what a compiled module, NumPy for one, has seen through a memoryview. The
    memory that was lent to a message becomes its one large buffer, other buffers are copied.
    """
    lent = whole.obj
    if isinstance(lent, mmap) and len(sizes) == 1 and sizes[0] > 0:
        lent.resize(sizes[0])
        return [lent]
    return [bytes(view) if view.readonly else bytearray(view) for view in _views(whole, sizes)]


_buffers = _objects if sys.implementation.name == "pypy" else _views


def _decode_cells(kind: Any, data: Received) -> Any:
    cells = ffi.from_buffer(kind, data)
    numbers: Any = ffi.unpack(cells, len(cells))
    ffi.release(cells)  # not before its numbers are copied
    return numbers


DECODERS: list[Callable[[Any], Any]] = [
    loads,
    marshal.loads,
    bytes,
    bytearray,
    lambda data: str(data, "utf-8"),
    _decode_buffers,
    lambda data: _decode_cells(_INT_CELLS, data),
    lambda data: _decode_cells(_FLOAT_CELLS, data),
]
