"""A finished run, or its export, over HTTP, with a page to try it on; and the page to correct photos."""
