"""What the machine provides: memory, files, folders, environment, network, progress."""
