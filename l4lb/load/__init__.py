"""The load of backends: scraped, parsed, and turned into weights."""
