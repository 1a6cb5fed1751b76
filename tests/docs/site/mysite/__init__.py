"""What startproject makes, shortened; the pages add the rest."""
