"""Each room of the worker alone."""
