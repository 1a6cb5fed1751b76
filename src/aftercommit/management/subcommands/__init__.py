"""The subcommands of ``manage.py aftercommit``: one module each."""
