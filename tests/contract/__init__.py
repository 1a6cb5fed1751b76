"""What others have written against ``django.tasks``, run over our backend."""
