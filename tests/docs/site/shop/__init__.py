"""A shop for tasks to act upon."""
