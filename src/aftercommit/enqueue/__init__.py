"""The way in: what a web process loads. No models at import."""
