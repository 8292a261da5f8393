"""The run folder: its files, lock, checkpoint, what two runs differ in, and how often test splits were opened."""
