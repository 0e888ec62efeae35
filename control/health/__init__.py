"""Is the node well? For probes, Prometheus and systemd."""
