# SPDX-License-Identifier: MIT
"""Objects as messages: a tag, and bytes that only the tag gives a meaning.

    tag   7  |  6   5   4  |  3 .. 0
       place | for others  | how the object was encoded

Plain bytes, str, int and the like skip pickle. Everything else is pickled by
protocol 5 (PEP 574), whose large buffers go out of band: they are sent from
where they lie and, in a message big enough, used where they arrive.

    PICKLE_BUFFERS:  count, size of the pickle | sizes | pickle | buffers
    a size that is negative belongs to a read-only buffer; each buffer starts
    at a multiple of 64 from the start of the message

PyPy's pickle is an order of magnitude slower than its marshal, which however
forgets that two references led to one object. There, a value of plain builtin
containers none of which occurs twice is marshalled: it comes back the same.
"""

from __future__ import annotations

import marshal
import struct
import sys
from pickle import PickleBuffer, dumps, loads
from typing import Any, Callable, Union

IN_PLACE = 0x80
ENCODING = 0x0F

NONE, TRUE, FALSE, INT, BYTES, BYTEARRAY, STR, PICKLE, MARSHAL = range(9)
PICKLE_BUFFERS = 9 | IN_PLACE

Received = Union[bytes, memoryview]
Payload = Union[bytes, "list[Any]"]

_INT = struct.Struct("<q")
_HEAD = struct.Struct("<qq")
_ALIGNMENT = 64
_pack_int = _INT.pack
_unpack_int = _INT.unpack


def encode(obj: object) -> tuple[int, Payload]:
    """Return *obj* as a tag and what to send: bytes, or a list of parts.

    Raises:
        Whatever pickling *obj* raises.
    """
    encoder = _ENCODERS.get(type(obj), _encode_pickle)
    return encoder(obj)


def decode(tag: int, data: Received) -> Any:
    """Return the object that *data*, received with *tag*, stands for.

    Raises:
        Whatever unpickling raises.
    """
    return DECODERS[tag & ENCODING](data)


# ------------------------------------------------------------------- encoding


def _encode_int(obj: int) -> tuple[int, Payload]:
    try:
        return INT, _pack_int(obj)
    except struct.error:
        return PICKLE, dumps(obj, 5)


def _encode_str(obj: str) -> tuple[int, Payload]:
    try:
        return STR, obj.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return PICKLE, dumps(obj, 5)


def _encode_pickle(obj: object) -> tuple[int, Payload]:
    buffers: list[PickleBuffer] = []
    data = dumps(obj, 5, buffer_callback=buffers.append)
    if buffers:
        return _encode_buffers(data, buffers)
    return PICKLE, data


def _encode_buffers(data: bytes, buffers: list[PickleBuffer]) -> tuple[int, Payload]:
    views = [buffer.raw() for buffer in buffers]
    sizes = [-view.nbytes if view.readonly else view.nbytes for view in views]
    head = _HEAD.pack(len(views), len(data)) + struct.pack(f"<{len(sizes)}q", *sizes)
    parts: list[Any] = [head, data]
    position = len(head) + len(data)
    for view in views:
        parts += [bytes(-position % _ALIGNMENT), view]
        position += -position % _ALIGNMENT + view.nbytes
    return PICKLE_BUFFERS, parts


def _encode_marshal(obj: Any) -> tuple[int, Payload]:
    if _is_plain(obj):
        try:
            return MARSHAL, marshal.dumps(obj)
        except ValueError:  # nested too deeply, or changed by another thread
            pass
    return _encode_pickle(obj)


_LEAVES = frozenset({type(None), bool, int, float, complex, str, bytes})


def _is_plain(obj: object) -> bool:
    """Whether *obj* is made of exact builtins, with no container in it twice."""
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
            return False
        pending.extend([item for item in inside if type(item) not in _LEAVES])
        if pending or seen:
            if id(container) in seen:
                return False
            seen.add(id(container))
    return True


_ENCODERS: dict[type, Callable[[Any], tuple[int, Payload]]] = {
    type(None): lambda _: (NONE, b""),
    bool: lambda obj: (TRUE if obj else FALSE, b""),
    int: _encode_int,
    bytes: lambda obj: (BYTES, obj),
    bytearray: lambda obj: (BYTEARRAY, [obj]),
    str: _encode_str,
}

if sys.implementation.name == "pypy":
    _ENCODERS.update(dict.fromkeys((list, tuple, dict), _encode_marshal))

# ------------------------------------------------------------------- decoding


def _decode_buffers(data: Received) -> Any:
    # A small message came as bytes: what was writable must be so again.
    whole = memoryview(bytearray(data) if isinstance(data, bytes) else data)
    count, pickle_size = _HEAD.unpack_from(whole)
    sizes = struct.unpack_from(f"<{count}q", whole, _HEAD.size)
    position = _HEAD.size + 8 * count + pickle_size
    pickled = whole[position - pickle_size : position]
    buffers = []
    for size in sizes:
        position += -position % _ALIGNMENT
        view = whole[position : position + abs(size)]
        buffers.append(view.toreadonly() if size < 0 else view)
        position += abs(size)
    return loads(pickled, buffers=buffers)


DECODERS: list[Callable[[Any], Any]] = [
    lambda _: None,
    lambda _: True,
    lambda _: False,
    lambda data: _unpack_int(data)[0],
    bytes,
    bytearray,
    lambda data: str(data, "utf-8"),
    loads,
    marshal.loads,
    _decode_buffers,
]
