# SPDX-License-Identifier: MIT
"""multiprocessing's Lock, Value and Queue in our children, and our Channel in a Process of theirs.

Everything works that was made before the fork, as long as multiprocessing forks too: hence
the context. Nothing put into the Queue is lost, although its feeder is a thread of the child.
"""

import multiprocessing

from snakefish import Channel, Thread

fork = multiprocessing.get_context("fork")


def deposit(name, times):
    for _ in range(times):
        with lock:  # without it, updates of the two children would overwrite each other
            balance.value += 1
    receipts.put((name, times))


lock = fork.Lock()
balance = fork.Value("i", 0, lock=False)
receipts = fork.Queue()
threads = [Thread(deposit, args=("ann", 500)), Thread(deposit, args=("bob", 300))]
for thread in threads:
    thread.start()
print("receipts:", sorted(receipts.get() for _ in threads))
for thread in threads:
    thread.join()
    thread.dispose()
print("balance:", balance.value)

with Channel() as channel:
    process = fork.Process(
        target=lambda: channel.send_pyobj({"from": "a Process of multiprocessing"})
    )
    process.start()
    print("through our Channel:", channel.receive_pyobj(True))
    process.join()
    print("its exit code:", process.exitcode)
receipts.close()
