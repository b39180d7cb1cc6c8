"""Charts as SVG text, drawn by a few lines each, so that thousands of pages need no drawing library."""
