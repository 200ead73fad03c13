"""Speed and memory beside their yardsticks: `make bench`, or `python -m tools.bench --help`."""
