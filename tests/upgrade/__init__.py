"""Jobs of the version before this one."""
