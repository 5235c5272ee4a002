"""One file for each platform; none knows another."""
