"""What measures: families of problems, peers, a pytest-benchmark suite, records and a report."""
