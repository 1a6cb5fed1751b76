"""The dashboard: pages for staff that show jobs and what concerns them, and change them.

``path("jobs/", include("aftercommit.dashboard.urls"))`` in the project's addresses.
"""
