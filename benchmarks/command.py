"""How `flannelette bench`, `bench-control` and `lab` begin, fail and end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from flannelette.benchmarks import interrupts
from flannelette.benchmarks.netns import RigError
from flannelette.control import goflags
from flannelette.control.errors import ConfigError, ControlError, one_line

Options = TypeVar("Options")


def run(
    name: str,
    argv: Sequence[str],
    parse: Callable[[Sequence[str]], Options],
    usage: Callable[[], str],
    work: Callable[[Options], int],
    unusable: type[Exception],
) -> int:
    """Do the work, which gives the exit code; else it is 1 when that failed, 2 for
    wrong flags and for files that are `unusable`, 130 when interrupted. SIGTERM and
    SIGHUP end in SystemExit, after the cleanup. Raises BrokenPipeError when nobody
    reads."""

    def fail(error: Exception, code: int) -> int:
        print(f"flannelette {name}: {one_line(error)}", file=sys.stderr)
        return code

    try:
        options = parse(argv)
    except goflags.HelpWanted:
        print(usage())
        return 0
    except ConfigError as error:
        return fail(error, error.exit_code)
    interrupts.catch()
    try:
        return work(options)
    except KeyboardInterrupt:
        print("\ninterrupted; all is removed", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise  # the command line knows what to do when nobody reads stdout
    except unusable as error:
        return fail(error, ConfigError.exit_code)
    except (RigError, ControlError, OSError) as error:
        return fail(error, 1)
    finally:
        interrupts.release()


def check_writable(path: Path) -> None:
    """Better now than after the measurement. Raises OSError."""
    existed = path.exists()
    path.open("ab").close()
    if not existed:
        path.unlink()
