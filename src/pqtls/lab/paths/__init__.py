"""Faulty paths on real packets: client, two routers with a box between them, server; each in a namespace of its own."""
