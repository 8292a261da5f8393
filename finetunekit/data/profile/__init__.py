"""A set of photos looked at as it is, before any training: contact sheet, statistics, metadata for others."""
