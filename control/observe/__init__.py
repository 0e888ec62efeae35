"""What an operator sees of packets: `flannelette trace` and `flannelette capture`."""
