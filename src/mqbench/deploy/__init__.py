"""What leaves the project: the lowered network, its integer form, files, engines, and proof that they agree."""
