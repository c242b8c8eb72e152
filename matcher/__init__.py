"""Templates, comparison and search. Knows no image, no person and no network."""
