"""Looking at the photos before training: files, duplicates, leaks, labels; every finding with its photos and what to do."""
