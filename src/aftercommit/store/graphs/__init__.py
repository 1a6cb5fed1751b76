"""Jobs that wait for jobs: their edges, and what the end of a job does to those that waited."""
