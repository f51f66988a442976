"""The far end of a path, on networks of one's own: what arrived there, and how to ask for it."""
