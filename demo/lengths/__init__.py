"""URL lengths: a job fetches a page and stores how long it is."""
