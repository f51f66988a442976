"""What runs inside other people's Python processes. Standard library only; imports nothing else of pqtls."""
