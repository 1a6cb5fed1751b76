"""What a worker does besides running jobs: presence, leases, outcomes, signals, rescues."""
