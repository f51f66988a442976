"""Renderers, pure functions of one report model: terminal, JSON Lines, JUnit."""
