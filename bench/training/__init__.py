"""Does training with paired noise help? One runner, a grid of runs, the page of what came out."""
