"""The demo site: settings, addresses and the entrance hall to three rooms."""
