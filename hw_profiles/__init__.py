"""What a choice costs: measured latency tables, size, BOPs."""
