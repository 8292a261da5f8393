"""A finished run, or what it was exported to, behind HTTP, with a page to try it on."""
