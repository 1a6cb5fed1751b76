"""Code for RabbitMQ that several libraries use."""
