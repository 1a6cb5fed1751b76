"""The back office: jobs that belong together, and a provider that says 429."""
