"""Flannel's backends: what each makes of a network configuration and of leases."""
