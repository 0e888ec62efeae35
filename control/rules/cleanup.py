"""`flannelette cleanup`: remove the traffic rules that a daemon leaves at its end (M6).

Those of both backends and of a flanneld before us, its FLANNEL-FWD too, which flanneld
itself never finds again (M8).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from flannelette.control.arguments import Parser
from flannelette.control.errors import HostError, one_line
from flannelette.control.rules.keeper import iptables_backends, nft_backends, remove


def main(argv: Sequence[str]) -> int:
    """1 if something could not be removed, and stderr says why. Raises ConfigError."""
    parser = Parser(
        "cleanup",
        "Remove the traffic rules of flannelette and flanneld: nftables' tables "
        "flannel-ipv4 and flannel-ipv6, iptables' chains FLANNEL-POSTRTG and "
        "FLANNEL-FWD, and the jumps to them. Stop the daemon first: it would make "
        "them again.",
    )
    if parser.parsed(argv) is None:
        return 0
    return asyncio.run(_clean())


async def _clean() -> int:
    """Each backend is tried, whatever became of the one before."""
    removed = failed = 0
    for backend in [*nft_backends(), *iptables_backends()]:
        if backend.missing():
            continue
        try:
            for what in await remove(backend):
                print(f"removed: {what}")
                removed += 1
        except (HostError, OSError) as error:
            print(f"flannelette: {one_line(error)}", file=sys.stderr)
            failed += 1
    if not removed and not failed:
        print("nothing to remove")
    return 1 if failed else 0
