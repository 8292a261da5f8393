"""What the machine has and gives: memory, files, folders, environment, network, progress."""
