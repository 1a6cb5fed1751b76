"""Finds dispatches inside open transactions in source code, without running it.

From files to findings in one direction: ``source`` reads and parses, ``extract`` takes the
facts of a file, ``project`` resolves names and types over all files, ``graph`` says who calls
whom and in which transaction, ``rules`` find, and ``output`` prints. Nothing here imports
Django, and no code of the project that is looked at is ever run.
"""
