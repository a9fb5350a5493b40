"""What experts decided of an audit's samples and regions: an append-only log in `decisions.sqlite`."""
