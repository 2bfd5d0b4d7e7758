"""Tables that list recordings: text files, Parquet, and what other toolkits write."""
