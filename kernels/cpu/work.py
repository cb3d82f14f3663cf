"""What one solve counts: work that does not depend on the machine, in an int64 array."""

BIDS = 0  # bids of the auction
BID_SCANS = 1  # whole rows scanned for them
DUAL_SCANS = 2  # whole rows scanned for the row duals of the exact finish
PATHS = 3  # shortest augmenting paths
LIST_RELAXATIONS = 4  # candidate lists offered to a search
ROW_RELAXATIONS = 5  # whole rows offered to a search
COUNTERS = ("bids", "bid_scans", "dual_scans", "paths", "list_relaxations", "row_relaxations")
