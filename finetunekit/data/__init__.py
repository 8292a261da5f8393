"""Folder or table → photos decoded once, indexed by split, with labels tied to names."""
