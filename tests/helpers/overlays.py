"""Does an overlay carry everything, both ways, unchanged?"""

from __future__ import annotations

import os
import random
import socket

from tests.helpers.lab import Lab
from tests.helpers.tcp import send_file

TCP_BYTES = 3_000_000


def check_overlay(it: Lab, versions: tuple[int, ...] = (4,)) -> None:
    """Ping, TCP and UDP between the pods of hosts 1 and 2, each way and over each IP
    version; data is compared."""
    for version in versions:
        for source, target in ((1, 2), (2, 1)):
            it.until_reaches(source, target, version=version)
            it.reach(source, target, count=5, version=version)
            data = os.urandom(TCP_BYTES)
            assert send_file(it, source, target, data, version) == data
            check_udp(it, source, target, version)


def check_udp(it: Lab, source: int, target: int, version: int) -> None:
    """Datagrams of all sorts of sizes, from none to what takes several fragments, come
    back as they were."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    near = it.socket_in(it.pods[source].ns, family=family)
    far = it.socket_in(it.pods[target].ns, family=family)
    sizes = [0, 1, 1000, 1280, 1401, 1402, 1403, 1421, 1422, 1423, 1444, 9000]
    with near, far:
        far.bind((it.address(target, version), 0))
        near.connect(far.getsockname()[:2])
        for size in [*sizes, *random.choices(range(1400), k=8)]:
            data = random.randbytes(size)
            near.send(data)
            got, where = far.recvfrom(1 << 16)
            assert got == data
            far.sendto(got, where)
            assert near.recv(1 << 16) == data
