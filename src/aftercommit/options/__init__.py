"""TASKS options, worker settings, and the names that follow from them."""
