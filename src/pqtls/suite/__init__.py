"""The client test suite: real clients as real processes, every connection of each judged."""
