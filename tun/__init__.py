"""The inside device: open it, give it address, MTU and route."""
