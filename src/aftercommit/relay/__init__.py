"""Messages for other people's brokers, kept in the transaction that sends them."""
