"""What an operator asks: where things stand, what does not fit together, how the bucket is set up."""
