"""Drivers of foreign update servers: provision, publish, start, read back, cancel, clean up."""
