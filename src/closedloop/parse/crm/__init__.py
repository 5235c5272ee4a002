"""One file for each way of speaking; none knows another."""
