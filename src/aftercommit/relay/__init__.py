"""The relay: messages for brokers, stored in the transaction that sends them."""
