"""What keeps a worker and its jobs alive, and the table true."""
