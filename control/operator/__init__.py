"""The operator socket: how `flannelette status` asks a running daemon.

A client connects to a Unix stream socket, sends one line, which is a command, and gets
one JSON document until the end of the stream; {"error": ...} when it went wrong. Only
the daemon's own user may connect.

A command that streams may have an argument, behind a space, and gives more behind the
line of its document, for as long as the client keeps its own side open: it ends by
shutting that down, reads what is still to come, and closes.
"""

REQUEST_MAX = 1 << 17
"""Bytes of a request, its newline included: room for the longest filter there is."""
DEADLINE = 5.0
"""Seconds for one exchange, on either side; of a stream, for its first line and for
what is left once the client wants no more. Between them it may be slow."""
