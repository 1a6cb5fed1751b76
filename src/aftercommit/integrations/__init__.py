"""Ready-made middleware for other libraries; each module imports its own, which is optional."""
