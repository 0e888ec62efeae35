"""The daemon, live: `flannelette top`."""
