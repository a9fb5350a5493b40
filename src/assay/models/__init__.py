"""Networks for our own experiments, and the loop that trains them."""
