"""What people run: the command line, the fleet runner, the reference backend, benchmarks."""
