"""Post-quantum TLS for Python: turn it on, prove it on every connection, find what breaks it."""

__version__ = "0.1.0"
