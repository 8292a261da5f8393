"""Plugins: hook specifications, the host that finds and calls them, and how a component is called and blamed."""
