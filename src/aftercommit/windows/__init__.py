"""What people look through, and what tells them of mistakes."""
