"""Traffic rules: masquerading, and forwarding where it is forbidden."""
