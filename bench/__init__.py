"""What measures: problems, peers, comparisons, records, and a report."""
