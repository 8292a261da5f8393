"""A finished run, or what it was exported to, behind HTTP, with a page to try it on; and the page to put photos right."""
