"""What is spliced into an encoder: tensor maths that knows no model."""
