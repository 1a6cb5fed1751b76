"""The pages of the documentation, read and run as a reader would."""
