"""Folder or table → photos decoded once and for all, indexed by split, with labels bound by name."""
