"""Importers of queues in RabbitMQ, each by the driver that its library brings."""
