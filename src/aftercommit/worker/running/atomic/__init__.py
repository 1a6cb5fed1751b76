"""Tasks whose effects and completion are one commit."""
