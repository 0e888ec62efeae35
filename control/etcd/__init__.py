"""The store in etcd, as flannel keeps it."""

import os

# gRPC's C core else writes a line to stderr for each failed handshake, for ever. It
# reads this when it is imported, and every module here that does so comes later.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
