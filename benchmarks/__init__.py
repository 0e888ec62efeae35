"""Two hosts on one machine: the rig, and what runs on it."""
