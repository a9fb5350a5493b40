"""Why a sample is influential, and whether the answer can be trusted."""
