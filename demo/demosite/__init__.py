"""The demo site: settings, addresses and the entrance hall to four rooms."""
