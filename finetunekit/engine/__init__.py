"""One run from a plan to its reports."""
