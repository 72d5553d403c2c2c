"""The report: claims, tables and figures made from result files."""
