"""The C fast path and the one module that talks to it."""
