# SPDX-License-Identifier: MIT
"""One channel, three threads: two send, one receives until both have ended.

Nobody sends a "that was all": receive_pyobj raises EOFError once the channel is empty and no
sender is left. Messages of one sender arrive in its order, however the two are interleaved.
"""

from snakefish import Channel, Thread


def send(name, count):
    for number in range(count):
        channel.send_pyobj((name, number), block=True)


def receive():
    received = {}
    while True:
        try:
            name, number = channel.receive_pyobj(True)
        except EOFError:
            return received
        received.setdefault(name, []).append(number)


with Channel(4096) as channel:
    threads = [
        Thread(send, args=("left", 1000)),
        Thread(send, args=("right", 2000)),
        Thread(receive),
    ]
    for thread in threads:
        thread.start()
    channel.close_send()  # the parent could send too; without this the end would never come
    for thread in threads:
        thread.join()

    for name, numbers in sorted(threads[2].get_result().items()):
        print(name, "sent", len(numbers), "- in order:", numbers == list(range(len(numbers))))
    for thread in threads:
        thread.dispose()
