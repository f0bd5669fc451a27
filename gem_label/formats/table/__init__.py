"""Tables with a row a mask: CSV and parquet."""
