"""Windows on the queue: pages of Django's admin, and system checks of the settings."""
