"""Features and predictions of any number of photos, one Parquet shard after another; what one call leaves, the next takes up."""
