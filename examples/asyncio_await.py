# SPDX-License-Identifier: MIT
"""await a Thread: fileno() is readable when the child has ended, so an event loop can wait for it.

The loop goes on meanwhile: a coroutine tells the children, one after the other, to finish.
"""

import asyncio

from snakefish import Channel, Thread


async def result_of(thread):
    """Return what *thread* returned, or raise what it raised, once it has ended."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(thread.fileno(), ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(thread.fileno())
    thread.join()
    return thread.get_result()


def work(name, gate):
    gate.receive_pyobj(True)
    return f"{name} done"


async def main():
    gates = [Channel(4096) for _ in range(3)]
    threads = [Thread(work, args=(name, gate)) for name, gate in zip("abc", gates)]
    for thread in threads:
        thread.start()
    waiting = [asyncio.create_task(result_of(thread)) for thread in threads]

    for number in (2, 0, 1):
        await asyncio.sleep(0)
        print("the loop is free: opening gate", number)
        gates[number].send_pyobj("go")
        print(await waiting[number])

    for owned in threads + gates:
        owned.dispose()


asyncio.run(main())
