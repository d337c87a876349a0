"""Training on instances that a statistics file chose, and the table of the results."""
