"""What leaves the project: integer arithmetic, and later files and engines."""
