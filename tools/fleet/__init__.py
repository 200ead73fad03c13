"""Running a fleet: its specification, live progress, audit and report."""
