"""A small app for tasks to act upon."""
