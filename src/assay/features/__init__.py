"""From a trained network to what its last layer sees."""
