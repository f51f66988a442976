"""Leave nothing behind: temporary files and processes that are gone with the run, however it ends."""
