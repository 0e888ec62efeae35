"""From one daemon to the next without losing a packet."""
