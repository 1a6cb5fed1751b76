"""Pages in Django's admin."""
