"""Which OpenSSL a process uses: inspect an interpreter, find a newer OpenSSL, graft it, undo it."""
