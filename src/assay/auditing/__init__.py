"""The main job: from a source to ranked, explained suspects, as passes over shards."""
