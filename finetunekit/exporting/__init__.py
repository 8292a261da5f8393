"""A finished run as an artefact for another runtime, and the certificate that it still gives the same answers."""
