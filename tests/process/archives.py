"""How a test tells the archive of ``pruning`` what to do: names of environment variables."""

STANDS_STILL = "AFTERCOMMIT_TEST_ARCHIVE_STANDS_STILL"  # the name of the gate
TAKES = "AFTERCOMMIT_TEST_ARCHIVE_TAKES"  # seconds
