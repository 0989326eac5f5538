"""What is measured of a trained network or of neural responses: one file a family, one row a kind in `registry`."""
