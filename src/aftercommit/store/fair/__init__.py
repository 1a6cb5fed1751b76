"""Fair lines: who is next when jobs take turns."""
