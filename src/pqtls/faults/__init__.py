"""The catalogue of path faults: one entry each, shared by the diagnosis, the lab and the docs. Pure values."""
