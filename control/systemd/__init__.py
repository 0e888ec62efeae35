"""What systemd and a daemon tell each other, and the rights that a daemon keeps."""
