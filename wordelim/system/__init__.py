"""What the machine gives: files, device, processes, progress. It knows no model."""
