"""Protocols that begin in plain text and turn to TLS on the same connection."""
