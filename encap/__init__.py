"""Wire formats as pure bytes: no sockets, no clock."""
