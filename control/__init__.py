"""Decides: configuration, leases, stores, and the daemon that wires them up."""
