"""What libraries on RabbitMQ share."""
