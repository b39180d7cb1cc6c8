"""Elementwise arithmetic with broadcast parameters: written once in torch, run as one CPU loop in eager mode."""
