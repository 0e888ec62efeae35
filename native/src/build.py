"""Declare the extension flannelette.native._fastpath for cffi (API mode)."""

import sys
from pathlib import Path

from cffi import FFI

SRC = Path("native/src")  # build back ends run in the project root

# Many 32-bit processors have no 64-bit atomics: there the compiler calls libatomic.
WORDS_ARE_SHORT = sys.maxsize < 2**32

ffibuilder = FFI()
ffibuilder.cdef((SRC / "api.h").read_text())
ffibuilder.set_source(
    "flannelette.native._fastpath",
    '#include "fastpath.h"',
    sources=sorted(str(path) for path in SRC.glob("*.c")),
    depends=sorted(str(path) for path in SRC.glob("*.h")),
    include_dirs=[str(SRC)],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
    extra_link_args=["-Wl,--as-needed", "-latomic"] if WORDS_ARE_SHORT else [],
)
