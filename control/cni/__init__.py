"""The CNI plugin, a program of its own: `flannelette-cni`."""
