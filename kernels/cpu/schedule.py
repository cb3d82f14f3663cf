"""How the CPU's solver goes about its work, as data: which way a shape goes, eps, budgets and
thresholds. What is compiled in: a change recompiles."""

from __future__ import annotations

# Shortest paths over whole rows take less time than an auction for squares of up to SMALL rows and,
# where there are more columns, for up to so many rows and columns.
SMALL = 64
SMALL_ROWS, SMALL_COLUMNS = 128, 8192

# Below this many columns a whole row is scanned faster than a candidate list is kept.
LISTED_FROM = 640

# The auction's eps, from the first to the last, each EPS_FACTOR below the one before. The unit is
# the spread: the median distance of a row's best value to about its twentieth best.
FIRST_EPS, LAST_EPS, EPS_FACTOR = 0.05, 0.003, 20.0
# Where the better values of a row lie closer together than uniform ones would, rows compete for the
# same columns over long distances (points on a line, i * j): then the first eps is FIRST_EPS times
# ROUGH standard deviations of the centred costs, and it falls slowly.
ROUGH, STRUCTURED_FACTOR = 2.0, 6.0
# That is where the spread is below this, and below this over m, in standard deviations ...
STRUCTURED = (0.35, 70.0)
# ... or where a row has so many copies, by a sample of so many pairs of rows.
COPIES, SAMPLED_PAIRS = 3.0, 512
# A spread this much smaller than others is one that a few huge costs make.
ILL_SCALED = 1e-3
SAMPLED_ROWS = 32  # by which the spread is known

# Bids of an auction, for each row; an ordinary problem takes 8 to 60, and the exact finish is
# cheaper than many more.
AUCTION_BIDS_PER_ROW = 150
# A phase that takes more bids a row than this is a price war: it starts again from a larger eps.
WAR_BIDS_PER_ROW = 24
# Rows that bid at the same prices: a processor works on them side by side. Where more than one bid
# in BIDS_PER_REFUSAL comes too late, rows bid one by one.
TOGETHER, BIDS_PER_REFUSAL = 4, 16
# Lists are given up, and whole rows scanned, where there are fewer bids than this for each fill of
# one; so many fills of each list are free.
BIDS_PER_FILL, FILLS_PER_ROW = 2, 2

# Bids without eps before shortest paths, for each row that is unassigned.
REDUCTION_BIDS_PER_ROW = 4
# Fewer rows than columns, where nothing else precedes the paths: for each row.
RECTANGLE_BIDS_PER_ROW = 16
# There, paths that look at more whole rows than this for each row are left to an auction.
# LISTS_A_ROW candidate lists take about as long as a row.
PATIENCE, LISTS_A_ROW = 2, 4
# Where a row has a copy or more, so many rows more, for each column that is left over (up to
# MOST_COLUMNS for each row): an auction has to find a path for each of those columns.
RECTANGLE_COPIES, PATIENCE_OF_COPIES, MOST_COLUMNS = 1.0, 60.0, 0.35
# There, lists are filled only if more than this share of the rows is still unassigned.
LISTED_SHARE = 1 / 32
# And so many columns are looked at for a free one that ties for the best.
TIE_LOOKS = 256

# To offer a column takes as long as to rebuild the slack of so many: a search rebuilds it once its
# offers have cost as much.
COLUMNS_PER_OFFER = 8

# Phases of breadth-first search where ties are the rule, each of at most one scan a row.
TIE_PHASES = 12

# Costs or prices this much larger than those that are paid call for a certificate, as float64 may
# have lost their digits ...
DWARF = 1e4
# ... and a gap of more than this share of the costs that are paid is one that smaller prices would
# close.
LOOSE = 1e-12
