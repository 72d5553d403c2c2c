"""The report docs/results.md: claims, tables and figures from the result files."""
