"""The demo: its fetcher, its rooms over HTTP, its commands, and a browser."""
