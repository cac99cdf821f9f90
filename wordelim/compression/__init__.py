"""What compress does: search, choose, retrain, verify."""
