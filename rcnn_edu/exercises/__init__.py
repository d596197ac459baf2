"""Checks of the lessons' exercises: each says what is wrong, not only that something is."""
