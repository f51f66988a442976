"""Everything local and offline: a throwaway authority, TLS servers, AWS without AWS, and names that lead there."""
