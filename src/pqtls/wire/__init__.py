"""Bytes to facts and back: TLS records and hellos. Sans-IO, standard library only."""
